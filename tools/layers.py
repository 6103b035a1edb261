"""Who may import what: the one table behind Bazel's visibility (tools/buildfiles.py) and the layering test.

Stages meet in files, never in imports. Serving reaches into stages only through their small online modules.
"""

from collections.abc import Iterator

STAGES = ("data_prep", "feature_repo", "retrieval", "index_builder", "ranking", "experiments", "evaluation")

# The parts of the stages that the serving process runs, by pattern (`a.b` or `a.b.*`).
ONLINE = (
    "index_builder.search",
    "index_builder.exact",
    "retrieval.item_tower",
    "retrieval.query",
    "retrieval.sources.*",
    "ranking.features",
    "ranking.feature_list",
    "ranking.groups",
    "ranking.live_items",
    "ranking.user_facts",
    "ranking.user_statistics",
    "ranking.day_statistics",
    "ranking.statistics",
    "ranking.scorer",
    "ranking.blend",
    "experiments.assign",
    "experiments.config",
    "experiments.files",
    "experiments.learning",
    "experiments.inference.arrivals",
    "experiments.inference.sample_ratio",
    "experiments.policies",
    "experiments.releases",
    "experiments.stops",
)

# `aisle` is the generated protobuf code.
_LIBRARIES = ("core", *STAGES, "aisle", "serving", "pipeline", "cli", "benchmarks", "notebooks", "configs", "tools")

# Folder -> the folders (or modules, by pattern) that it may import besides itself.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "aisle": ("tools",),  # which generates it
    "core": (),
    **dict.fromkeys(STAGES, ("core",)),
    "serving": ("core", "aisle", *ONLINE),
    "pipeline": ("core", *STAGES, "aisle", "serving"),
    "configs": (),
    "tools": (),
    "cli": _LIBRARIES,
    "benchmarks": _LIBRARIES,
    "notebooks": _LIBRARIES,
    "tests": _LIBRARIES,
}
FOLDERS = tuple(MAY_IMPORT)

# A library that has one home -> the folders that may import it; FREE ones may import anything.
HOMES: dict[str, tuple[str, ...]] = {
    "pyspark": ("data_prep",),
    "tensorflow": ("retrieval",),
    "tensorflow_recommenders": ("retrieval",),
    "tf_keras": ("retrieval",),
    "faiss": ("index_builder",),
    "lightgbm": ("ranking",),
    "feast": ("feature_repo",),
    "grpc": ("serving", "cli"),
}
FREE = ("benchmarks", "tests")

# Not in the `serve` dependency group: what the serving process imports, however indirectly, imports none of these.
OFFLINE = ("tensorflow", "tensorflow_recommenders", "tf_keras", "pyspark", "feast", "pandas", "pyarrow", "duckdb")


def matches(module: str, pattern: str) -> bool:
    """Whether a module is named by `a.b`, or lies in or below the package of `a.b.*`."""
    stem = pattern.removesuffix(".*")
    return module == stem or (pattern.endswith(".*") and module.startswith(stem + "."))


def allowed(importer: str, imported: str) -> bool:
    """Whether one of our modules may import another."""
    home, target = importer.split(".")[0], imported.split(".")[0]
    if home == target:
        return True
    return any(matches(imported, p) or target == p for p in MAY_IMPORT[home])


def importers(module: str) -> Iterator[str]:
    """The folders that may import a module: its Bazel visibility."""
    return (folder for folder in FOLDERS if allowed(folder, module))


def allowed_library(importer: str, library: str) -> bool:
    """Whether one of our modules may import a third-party library."""
    folder = importer.split(".")[0]
    return library not in HOMES or folder in FREE or folder in HOMES[library]
