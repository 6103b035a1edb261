"""Which kernel a ranker's folder gets: compiled where it can be, LightGBM's with the reason in the log where it cannot, the same scores always."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from core import native
from core.errors import ArtifactError
from ranking import model_text
from ranking.kernel import NativeKernel
from ranking.scorer import MODEL, TREES, LightGbmKernel, open_kernel
from tests.ranking.forests import random_rows, random_text

FEATURES = 5
ROWS = random_rows(2, 300, FEATURES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / MODEL).write_text(random_text(1, FEATURES, trees=30))
    model_text.read(tmp_path / MODEL).write(tmp_path / TREES, tmp_path / MODEL)
    return tmp_path


def same_scores(folder: Path) -> bool:
    wanted = lightgbm.Booster(model_file=folder / MODEL).predict(ROWS, num_threads=1)
    return np.array_equal(open_kernel(folder).predict(ROWS), wanted)


def test_the_compiled_kernel(folder: Path) -> None:
    opened = open_kernel(folder)
    assert isinstance(opened, NativeKernel)
    assert opened.n_features == FEATURES
    assert same_scores(folder)


def test_a_ranker_of_before_there_were_trees(folder: Path) -> None:
    shutil.rmtree(folder / TREES)
    assert isinstance(open_kernel(folder), NativeKernel)
    assert same_scores(folder)


def test_trees_and_model_must_belong_together(folder: Path) -> None:
    (folder / MODEL).write_text(random_text(2, FEATURES))
    with pytest.raises(ArtifactError, match="trees beside it are of"):
        open_kernel(folder)
    (folder / MODEL).unlink()
    with pytest.raises(ArtifactError, match=r"model\.txt: missing"):
        open_kernel(folder)


def test_without_a_compiler(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    native.load.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))  # an installation that has no compiled kernel yet
    with caplog.at_level(logging.WARNING):
        opened = open_kernel(folder)
    assert isinstance(opened, LightGbmKernel)
    assert opened.n_features == FEATURES
    assert "several times slower: no C compiler" in caplog.text
    assert same_scores(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.replace("objective=lambdarank", "objective=binary sigmoid:1"), "binary sigmoid:1"),
        (lambda t: t.replace("label_index=0", "label_index=0\naverage_output"), "averaged"),
    ],
)
def test_a_model_that_the_kernel_cannot_express(
    folder: Path, caplog: pytest.LogCaptureFixture, change: Callable[[str], str], reason: str
) -> None:
    shutil.rmtree(folder / TREES)
    (folder / MODEL).write_text(change((folder / MODEL).read_text()))
    assert isinstance(open_kernel(folder), LightGbmKernel)
    assert reason in caplog.text
    assert same_scores(folder)
