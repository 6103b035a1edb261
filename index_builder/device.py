"""Training and adding on a GPU where there is one. What comes out is a CPU index either way: the server needs no GPU."""

from __future__ import annotations

from typing import Any, Literal

import faiss

from core.errors import EnvironmentGapError

Device = Literal["auto", "cpu", "gpu"]


def gpus(device: Device) -> int:
    """How many GPUs to use.

    Raises:
        EnvironmentGapError: if `gpu` is asked for and there is none.
    """
    found = 0 if device == "cpu" else int(faiss.get_num_gpus())
    if device == "gpu" and not found:
        raise EnvironmentGapError(
            "index.device is gpu, but FAISS sees none: set it to auto or cpu, or install the group faiss-gpu on a machine with an NVIDIA GPU"
        )
    return found


def use_for_clustering(index: Any, count: int) -> None:
    """Let the k-means of an inverted file's `train` look for the nearest centroids on the GPUs."""
    if count:
        index.clustering_index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(index.d), ngpu=count)


def assigner(quantiser: Any, count: int) -> Any:
    """The coarse quantiser to assign vectors to lists with: on the GPUs where there are any. That is nearly all that adding costs."""
    return faiss.index_cpu_to_all_gpus(quantiser, ngpu=count) if count else quantiser
