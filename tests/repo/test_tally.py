"""`./aisle test` counts what Bazel ran, and compiles the kernels before."""

import json
from pathlib import Path
from typing import Any

from cli.commands.test import compile_kernels, count


def report(folder: Path, cases: str) -> dict[str, Any]:
    folder.mkdir()
    path = folder / "test.xml"
    path.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return {"name": "test.xml", "uri": path.as_uri()}


def events(path: Path, *targets: tuple[str, str, int, list[dict[str, Any]]]) -> Path:
    lines = []
    for label, status, cached, outputs in targets:
        lines.append({"id": {"testResult": {"label": label}}, "testResult": {"testActionOutput": outputs}})
        summary = {"overallStatus": status, "totalNumCached": cached}
        lines.append({"id": {"testSummary": {"label": label}}, "testSummary": summary})
    path.write_text("".join(json.dumps(line) + "\n" for line in [{"started": {}}, *lines]))
    return path


def test_count(tmp_path: Path) -> None:
    log = {"name": "test.log", "uri": "file:///no/such/log"}
    fine = report(tmp_path / "a folder", "<testcase/><testcase><properties/></testcase>")
    mixed = report(
        tmp_path / "b",
        '<testcase/><testcase><failure message="x"/></testcase><testcase><error/></testcase>'
        '<testcase classname="tests.b" name="gpu"><skipped message="no GPU here"/></testcase>',
    )
    tally = count(
        events(
            tmp_path / "events",
            ("//a", "PASSED", 1, [log, fine]),
            ("//b", "FAILED", 0, [log, mixed]),
            ("//crashed", "TIMEOUT", 0, [log]),  # no report at all: one failure
        )
    )
    assert tally.line() == "3 passed, 3 failed, 1 skipped"
    assert tally.skips == ["tests.b::gpu: no GPU here"]
    assert (tally.targets, tally.cached) == (3, 1)


def test_a_failed_target_whose_report_shows_no_failure_counts(tmp_path: Path) -> None:
    passed = report(tmp_path / "a", "<testcase/>")
    assert count(events(tmp_path / "events", ("//a", "FAILED", 0, [passed]))).line() == "1 passed, 1 failed, 0 skipped"


def test_every_kernel_is_compiled_before_the_tests(tmp_path: Path) -> None:
    """One source as it is, one in two widths, and one that does not compile, which keeps nothing from going on."""
    for where, text in {
        "core/kernels/a.c": "int one(void) { return 1; }",
        "ranking/native/b.c": "int size(void) { return WORD; }",
        "serving/rules/native/c.c": "no C",
    }.items():
        (tmp_path / where).parent.mkdir(parents=True)
        (tmp_path / where).write_text(text)
    assert compile_kernels(tmp_path, tmp_path / "made") == 3
    assert len(list((tmp_path / "made").glob("*.so"))) == 3
    assert compile_kernels(tmp_path, tmp_path / "made") == 3
    assert len(list((tmp_path / "made").glob("*.so"))) == 3
