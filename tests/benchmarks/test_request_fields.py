"""The benchmark of request fields runs, and its requests are what their names say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import request_fields as benchmark
from serving.client import Client
from serving.process import ProcessOptions, ServingProcess
from tests.serving.conftest import bare
from tests.serving.shop import make_shop


def test_it_prints_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = make_shop(tmp_path)
    # without Redis: answers are degraded, which costs nothing here
    options = ProcessOptions(
        shop.current, shop.root, "127.0.0.1", 0, "redis://127.0.0.1:1/0", embedded=False, config=bare()
    )
    process = ServingProcess(options)
    process.start()
    address = f"127.0.0.1:{process.port}"
    monkeypatch.setattr(
        sys, "argv", ["x", "--server", address, "--rounds", "2", "--k", "3", "--attribute", "category", "--user", "ann"]
    )
    benchmark.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["kinds"]) == 9
    assert found["kinds"]["plain"]["times_plain"] == 1
    assert found["kinds"]["list of 500"]["reply_bytes"] > found["kinds"]["plain"]["reply_bytes"]
    with Client(address, timeout=20) as client:
        asks = benchmark.kinds(client, "ann", "category", 3)
        assert [r.rank for r in asks["second page of 500"]()[0].results] == [4, 5, 6]
        assert len(asks["4 placements, each"]()) == 4
    process.stop()
