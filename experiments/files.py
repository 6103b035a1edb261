"""Reads a folder of experiments, one a file. Every problem is one line: the file, the line, what is wrong, and the nearest thing that would be right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

from pydantic import ValidationError

from core.artifact import hash_json
from core.errors import NotFoundError, nearest
from core.marked import Marked, read_marked, type_name, yaml_files
from experiments.assign import Split
from experiments.config import Experiment

_SLIVER = 1e-9  # .4 + .2 is a bit more than .6
STOPPED = ".stopped"  # NAME.stopped beside the files: the kill switch of `experiment stop`


@dataclass(frozen=True)
class Written:
    """An experiment and where it is written."""

    experiment: Experiment
    file: Marked
    releases: Mapping[str, Path] = field(default_factory=dict)  # of the arms that have one of their own

    @cached_property
    def split(self) -> Split:
        """Who gets which arm, as the file says."""
        return Split(self.experiment)

    @cached_property
    def id(self) -> str:
        """A hash of what it says."""
        return hash_json(self.experiment.model_dump(mode="json"))[:12]


Find = Callable[["Written", str], Path]
"""The release of an arm, checked (experiments.releases)."""


def load_experiments(folder: Path, find: Find | None = None) -> tuple[Written, ...]:
    """Read every `*.yaml` of a folder (not of those below).

    Args:
        folder: Of files.
        find: Finds the releases of arms; None: they are not looked for.

    Raises:
        ConfigError: A file does not fit, or two do not fit together.
        NotFoundError: There is no such folder.
    """
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder of experiments")
    found = tuple(read_experiment(path, find) for path in yaml_files(folder))
    _together(found)
    return found


def read_experiment(path: Path, find: Find | None = None) -> Written:
    """The experiment of one file; see `load_experiments`."""
    file = read_marked(path)
    values = file.values
    if not isinstance(values, dict):
        raise file.problem((), f"holds a {type_name(values)}, expected an experiment: keys such as name, owner, arms")
    try:
        experiment = Experiment.model_validate(values)
    except ValidationError as e:
        # a key that is mistyped explains one that is missing
        first = min(e.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise file.explained((), "", Experiment, first) from None
    if experiment.name != path.stem:
        raise file.problem(
            ("name",), f"name {experiment.name!r} is not that of the file, {path.stem!r}: make them the same"
        )
    written = Written(experiment, file)
    if find is None:
        return written
    return replace(
        written, releases={name: find(written, name) for name, arm in experiment.arms.items() if arm.release}
    )


def stopped(folder: Path) -> frozenset[str]:
    """The experiments of a folder whose kill switch is on, whatever their files say.

    Raises:
        OSError: The folder cannot be read, which says nothing of its switches: who followed them goes by what it knew.
    """
    return frozenset(p.name.removesuffix(STOPPED) for p in folder.iterdir() if p.name.endswith(STOPPED))


def switch_of(folder: Path, name: str) -> Path:
    """The kill switch of an experiment, pulled or not. No file needs to fit for it: whoever pulls it is in a hurry.

    Raises:
        NotFoundError: There is no such folder, or no file of that name in it.
    """
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder of experiments")
    names = [path.stem for path in yaml_files(folder)]
    if name not in names:
        raise NotFoundError(f"no experiment {name!r} in {folder}; {nearest(name, names)}")
    return folder / f"{name}{STOPPED}"


def wanted(written: Written, now: float) -> bool:
    """Whether it runs, or may yet: it is not off, over or stopped. `now`: microseconds."""
    experiment, folder = written.experiment, written.file.path.parent
    return experiment.enabled and now < experiment.in_force[1] and experiment.name not in stopped(folder)


def _together(found: Sequence[Written]) -> None:
    """Refuse experiments of one layer that take the same part of it at the same time, and two of one name (`a.yaml` and `a.yml`)."""
    for one, other in combinations(found, 2):
        if one.experiment.name == other.experiment.name:
            raise other.file.problem(
                ("name",),
                f"name {other.experiment.name!r} is that of {one.file.path.name} too: remove one of the files",
            )
    for one, other in combinations((w for w in found if w.experiment.enabled), 2):
        a, b = one.experiment, other.experiment
        overlap = min(a.part[1], b.part[1]) - max(a.part[0], b.part[0]) > _SLIVER
        at_once = max(a.in_force[0], b.in_force[0]) < min(a.in_force[1], b.in_force[1])
        if a.layer == b.layer and overlap and at_once:
            raise other.file.problem(
                ("traffic",) if "traffic" in other.file.values else (),
                f"takes {b.part[0]:g} to {b.part[1]:g} of layer {b.layer!r}, of which {a.name!r} has {a.part[0]:g} to {a.part[1]:g}: "
                "set traffic.first and traffic.share, or another layer",
            )
        if a.layer != b.layer and at_once and _serves_release(a) and _serves_release(b):
            raise other.file.problem(
                ("arms",),
                f"has releases of its own in layer {b.layer!r}, and {a.name!r} has in {a.layer!r}: a request could be given two; "
                "put both in one layer",
            )


def _serves_release(experiment: Experiment) -> bool:
    return any(experiment.arms[name].release for name in experiment.served)
