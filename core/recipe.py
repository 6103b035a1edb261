"""What an artifact is made from, part by part: the same parts give the same artifact, and a part that changed is why it is made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from core import artifact
from core.errors import ArtifactError, NotFoundError

Recipe = Mapping[str, str]
"""Name of a part (a parent, a section of the settings, the code) -> its fingerprint."""

MADE_FROM: Final = "made_from"  # in a manifest's `about`


def fingerprint(recipe: Recipe) -> str:
    """Of all parts together."""
    return artifact.hash_json(dict(recipe))


def made_from(path: Path) -> dict[str, str] | None:
    """The recipe of the artifact at `path`; None where there is none, or one of an Aisle that did not write recipes."""
    try:
        about = artifact.read_manifest(path).about
    except (NotFoundError, ArtifactError):
        return None
    return dict(about[MADE_FROM]) if MADE_FROM in about else None


def changed(recipe: Recipe, before: Recipe | None) -> list[str]:
    """Names of the parts that differ, those that came or went too, in the order of the recipe."""
    names = [*recipe, *(n for n in before or {} if n not in recipe)]
    return [n for n in names if recipe.get(n) != (before or {}).get(n)]
