"""The commands that the documentation shows, and how each is known to work: `docs/commands.md`.

    python -m tools.doccommands           writes docs/commands.md
    python -m tools.doccommands --check   fails where it is stale

That every command and option exists, and that every file named here exists and runs what it is named for, is tests/repo/test_doc_commands.py.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path("docs/commands.md")
_BEGINS = ("./aisle ", ".venv/bin/python -m ")
_SPAN = re.compile(r"`((?:\./aisle|\.venv/bin/python -m) [^`]+)`")

# Words of a command after ./aisle -> the test that runs it, as a process or by calling it through the command line's own parser.
RUN_BY = {
    "batch": "tests/pipeline/nightly/test_night.py",
    "catalog availability": "tests/serving/test_catalog_processes.py",
    "catalog delete": "tests/serving/test_catalog_processes.py",
    "catalog upsert": "tests/serving/test_catalog_processes.py",
    "evaluate": "tests/pipeline/nightly/test_night.py",
    "events sink": "tests/pipeline/test_sink_command.py",
    "experiment evaluate": "tests/pipeline/test_experiment_commands.py",
    "experiment plan": "tests/pipeline/test_experiment_commands.py",
    "experiment simulate": "tests/pipeline/test_experiment_commands.py",
    "explain": "tests/serving/test_explain.py",
    "features apply": "tests/feature_repo/test_features_command.py",
    "features export": "tests/feature_repo/test_features_command.py",
    "features list": "tests/feature_repo/test_features_command.py",
    "features materialize": "tests/feature_repo/test_features_command.py",
    "import": "tests/data_prep/test_import_public_data.py",
    "keys new": "tests/serving/test_keys_command.py",
    "materialize": "tests/serving/test_commands.py",
    "nightly": "tests/pipeline/nightly/test_night.py",
    "nights": "tests/pipeline/nightly/test_night.py",
    "prepare": "tests/pipeline/nightly/test_night.py",
    "rank": "tests/serving/test_rank.py",
    "recommend": "tests/serving/test_commands.py",
    "redis backup": "tests/pipeline/registry/test_commands.py",
    "redis restore": "tests/pipeline/registry/test_commands.py",
    "releases card": "tests/pipeline/registry/test_commands.py",
    "releases diff": "tests/pipeline/registry/test_commands.py",
    "releases list": "tests/pipeline/registry/test_commands.py",
    "releases promote": "tests/pipeline/registry/test_commands.py",
    "releases prune": "tests/pipeline/registry/test_commands.py",
    "releases pull": "tests/pipeline/registry/test_commands.py",
    "releases push": "tests/pipeline/registry/test_commands.py",
    "releases rollback": "tests/pipeline/registry/test_commands.py",
    "releases show": "tests/pipeline/registry/test_commands.py",
    "releases verify": "tests/pipeline/registry/test_commands.py",
    "rules check": "tests/serving/test_rules_served.py",
    "rules preview": "tests/serving/test_rules_served.py",
    "serve": "tests/serving/test_commands.py",
    "simulate": "tests/pipeline/nightly/conftest.py",
    "top": "tests/serving/test_top.py",
    "users delete": "tests/serving/test_commands.py",
    "users erase": "tests/pipeline/test_erase.py",
}

# The beginning of a command -> why no test runs it.
NOT_RUN = {
    "./aisle setup": "makes the environment that the tests run in: every launch of a clean clone does it first",
    "./aisle test": "runs the tests themselves",
    "./aisle demo": "several minutes; its steps are each run by tests/pipeline/nightly",
    "./aisle bench": "minutes to hours on a quiet machine; its parts run small in tests/benchmarks",
    "./aisle experiment": "the files, the answers and the switch behind it run in tests/experiments and tests/serving/test_experiments.py",
    "./aisle features skew": "needs a log of served pages; what it calls runs in tests/pipeline/test_skew.py",
    ".venv/bin/python -m benchmarks.cost_model": "its arithmetic, and that docs/scaling.md shows it, are tests/benchmarks/test_cost_model.py",
    ".venv/bin/python -m benchmarks.": "minutes to hours on a quiet machine; docs/results.md has its figures and their commits",
    ".venv/bin/python -m tools.": "writes files of the checkout; what it writes is checked in tests/repo",
}


@dataclass(frozen=True)
class Shown:
    """A command as the documentation shows it."""

    file: str
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        """As a shell would split it, without what stands for more (`...`), brackets around what may be left out, and comments."""
        text = (
            re.sub(r"\s#\s.*", "", self.text).replace("[", " ").replace("]", " ")
            if "IN [" not in self.text
            else self.text
        )
        return [word for word in shlex.split(text) if word != "..."]


def shown(root: Path) -> Iterator[Shown]:
    """Every command of README.md and docs/*.md: lines of code blocks that begin as one, and spans of code; `;` and `&&` part commands."""
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        if path == root / PAGE:
            continue
        fenced = False
        lines = enumerate(path.read_text().splitlines(), 1)
        for number, line in lines:
            while line.endswith("\\"):  # a command goes on in the next line
                line = line[:-1] + next(lines)[1].strip()
            fenced ^= line.startswith("```")
            texts = [line.strip()] if fenced else _SPAN.findall(line)
            for text in texts:
                for part in re.split(r"\s*(?:;|&&)\s*", text):
                    if f"{part} ".startswith(_BEGINS) and len(part.split()) > 1:
                        yield Shown(str(path.relative_to(root)), number, part)


def evidence(command: Shown) -> tuple[str, str] | None:
    """("run by", a test) or ("not run", why); None where nobody has said."""
    words = command.words
    for n in (3, 2):
        if words[0] == "./aisle" and (test := RUN_BY.get(" ".join(words[1:n]))):
            return "run by", test
    start = " ".join(words)
    return next((("not run", why) for begin, why in NOT_RUN.items() if start.startswith(begin)), None)


def text(root: Path) -> str:
    """What docs/commands.md should be."""
    by_name: dict[str, list[Shown]] = {}
    for command in shown(root):
        words = [w for w in command.words if not w.startswith("-") or w == "-m"]
        two = (words[0] == "./aisle" and " ".join(words[1:3]) in RUN_BY) or words[1:2] in (["bench"], ["features"])
        name = " ".join(words[:3] if two or words[0] != "./aisle" else words[:2])
        by_name.setdefault(name, []).append(command)
    rows = []
    for name, commands in sorted(by_name.items()):
        how, what = evidence(commands[0]) or ("not run", "nobody has said why")
        said = f"[{what}](../{what})" if how == "run by" else what
        files = ", ".join(
            f"[{f}]({'../' if f == 'README.md' else ''}{f.removeprefix('docs/')})"
            for f in sorted({c.file for c in commands})
        )
        rows.append(f"| `{name}` | {files} | {how} | {said} |")
    return "\n".join(
        [
            "# Commands of the documentation",
            "",
            "Written by `python -m tools.doccommands`. That each command and its options exist is a test",
            "([`tests/repo/test_doc_commands.py`](../tests/repo/test_doc_commands.py)); the table says what runs it, or why nothing does.",
            "",
            "| command | shown in | | by, or because |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    """See the module."""
    new, path = text(ROOT), ROOT / PAGE
    if "--check" in sys.argv:
        if path.exists() and path.read_text() == new:
            return 0
        print(f"{PAGE} is stale: run .venv/bin/python -m tools.doccommands")
        return 1
    path.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
