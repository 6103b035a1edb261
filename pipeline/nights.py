"""The story of the nights: `WORK/nights.jsonl`, a line for each thing that happened, appended and flushed as it does.

    {"night": ID, "at": seconds since the epoch, "what": "began", "mode": ..., "data": ..., "commit": ...}
    {"night": ID, "at": ..., "what": "stage", "stage": ..., "seconds": ..., "skipped": bool, "lean": bool}
    {"night": ID, "at": ..., "what": "ended", "outcome": ..., "seconds": ..., "release": ..., "refused": [gates], "ndcg@10": ..., "error": ...}

A night without its last line was killed; what it had done by then is there. How long stages will take tonight is read off the nights before.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from core import artifact, atomic
from core.work import Work

FILE: Final = "nights.jsonl"
LOGS: Final = "logs"
PUBLISHED: Final = "published"
UNCHANGED: Final = "unchanged"  # the champion is what tonight would have published
REFUSED: Final = "refused"
OUT_OF_TIME: Final = "out of time"
FAILED: Final = "failed"
KILLED: Final = "killed"  # or still under way
_LEAN_SHARE: Final = 0.5  # of a stage that never ran without its optional work: what it is taken to need


@dataclass
class NightStory:
    """One night as it was written down."""

    night: str
    began: float
    mode: str
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcome: str = KILLED
    end: dict[str, Any] = field(default_factory=dict)  # the last line

    @property
    def row(self) -> dict[str, Any]:
        """For the table of nights."""
        ran = {name: s["seconds"] for name, s in self.stages.items() if not s["skipped"]}
        return {
            "night": self.night,
            "mode": self.mode,
            "outcome": self.outcome,
            "refused_by": list(self.end.get("refused", [])),
            "release": self.end.get("release"),
            "ndcg@10": self.end.get("ndcg@10"),
            "seconds": self.end.get("seconds", round(sum(ran.values()), 1)),
            "stages": ran,
            "error": self.end.get("error"),
        }


def read(work: Work) -> list[NightStory]:
    """Every night, oldest first."""
    nights: dict[str, NightStory] = {}
    for line in _lines(work.root / FILE):
        if line["what"] == "began":
            nights[line["night"]] = NightStory(line["night"], line["at"], line["mode"])
        elif (night := nights.get(line["night"])) is None:
            continue  # its beginning was pruned
        elif line["what"] == "stage":
            night.stages[line["stage"]] = line
        else:
            night.outcome, night.end = line["outcome"], line
    return list(nights.values())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines: a kill may have left half of one."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(text)
        except ValueError:
            continue


class Durations:
    """How long each stage took when it last ran, by mode; another mode's where this one never ran it."""

    def __init__(self, nights: list[NightStory], mode: str) -> None:
        self._of: dict[tuple[str, bool], float] = {}
        for night in sorted(nights, key=lambda n: n.mode == mode):  # stable: this mode's last, the newest last
            for name, stage in night.stages.items():
                if not stage["skipped"]:
                    self._of[name, bool(stage.get("lean"))] = float(stage["seconds"])

    def of(self, stage: str, lean: bool = False) -> float | None:
        """Seconds, or None where it is not known; `lean`: without its optional work."""
        whole = self._of.get((stage, False))
        if not lean:
            return whole
        return self._of.get((stage, True), None if whole is None else whole * _LEAN_SHARE)


class Journal:
    """Writes one night's lines and its logs. Only the owner of the work directory's lock has one."""

    def __init__(self, work: Work, mode: str, data: Path) -> None:
        self._path, self.began = work.root / FILE, time.time()
        stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(self.began))}-{mode}"
        known = {n.night for n in read(work)}
        self.night = next(n for n in (stamp, *(f"{stamp}-{i}" for i in range(2, len(known) + 3))) if n not in known)
        self.logs = work.root / LOGS / self.night
        self.logs.mkdir(parents=True, exist_ok=True)
        self.write("began", mode=mode, data=str(data), commit=artifact.git_commit(), pid=os.getpid())

    def write(self, what: str, **facts: Any) -> None:
        """Append a line, on disk when this returns."""
        line = json.dumps({"night": self.night, "at": round(time.time(), 3), "what": what, **facts}) + "\n"
        new = not self._path.exists()
        with open(self._path, "ab+") as f:
            if f.tell() and _last_byte(self._path) != b"\n":
                line = "\n" + line  # a kill left half a line
            f.write(line.encode())
            f.flush()
            os.fsync(f.fileno())
        if new:
            atomic.fsync_path(self._path.parent)

    def log(self, stage: str, text: str) -> None:
        """A line of what a stage said."""
        with open(self.logs / f"{stage}.log", "a", encoding="utf-8") as f:
            f.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}\n")


def _last_byte(path: Path) -> bytes:
    with open(path, "rb") as f:
        f.seek(-1, os.SEEK_END)
        return f.read(1)


def prune_logs(work: Work, keep: int) -> list[str]:
    """Remove the logs of all nights but the newest `keep`; the names removed. The lines of `nights.jsonl` stay: a few hundred bytes a night."""
    folder = work.root / LOGS
    names = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.exists() else []
    old = names[: max(0, len(names) - keep)]
    for name in old:
        shutil.rmtree(folder / name)
    return old


def ndcg_of(metrics: Mapping[str, Any] | None) -> float | None:
    """The figure of the table."""
    value = (metrics or {}).get("ndcg@10")
    return None if value is None else float(value)
