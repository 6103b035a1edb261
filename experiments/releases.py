"""The releases that arms of experiments name: found and checked before anything is opened, so that a file with a wrong one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from core.artifact import open_artifact
from core.errors import AisleError, nearest
from core.release import FORMAT_VERSION, KIND
from experiments.files import Find, Written

_STATE: Final = "user_state"  # of a manifest's `about`; a twin has none


def finder(releases: Path | None, *, confined: bool = False) -> Find:
    """Finds an arm's release: a name is one of `releases`, anything with a slash a path, seen from the folder of the experiment's file.

    Args:
        releases: WORK/releases; None: names mean nothing.
        confined: A release outside of it is refused, as for a tenant.

    Returns:
        From an experiment and the name of an arm that has a release the directory. It raises ConfigError, with file and line, where that is
        missing, a link (which moves), or no release that can be served.
    """

    def find(written: Written, arm: str) -> Path:
        text = written.experiment.arms[arm].release or ""
        place = ("arms", arm, "release")
        if "/" not in text and releases is None:
            raise written.file.problem(
                place, f"release {text!r}: a name means one of WORK/releases: say which WORK (--work), or write a path"
            )
        path = written.file.path.parent / text if "/" in text or releases is None else releases / text
        if not path.is_dir():
            hint = "" if "/" in text or releases is None else f"; {nearest(text, _names(releases))}"
            raise written.file.problem(place, f"release {text!r}: {path} is no directory{hint}")
        if path.is_symlink():
            raise written.file.problem(
                place, f"release {text!r} is a link, which moves: name {path.resolve().name!r} itself"
            )
        path = path.resolve()
        if confined and (releases is None or path.parent != releases.resolve()):
            raise written.file.problem(place, f"release {text!r} is not one of the releases of this tenant")
        try:
            manifest = open_artifact(path, kind=KIND, format_version=FORMAT_VERSION)
        except (AisleError, OSError) as e:
            raise written.file.problem(place, f"release {text!r} does not fit: {e}") from None
        if not manifest.about.get(_STATE):
            raise written.file.problem(place, f"release {text!r} is a twin, which is for evaluation alone")
        return path

    return find


def _names(releases: Path) -> list[str]:
    try:
        return sorted(p.name for p in releases.iterdir() if p.is_dir() and not p.is_symlink() and p.name[0] != ".")
    except OSError:
        return []
