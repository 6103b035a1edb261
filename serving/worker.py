"""`python -m serving.worker`: one of several processes of a server; serving.workers starts it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from core.errors import AisleError
from serving import process
from serving.board import Board
from serving.config import ServingConfig
from serving.process import ProcessOptions
from serving.sight import logs
from serving.tenants_file import TenantSpec


def main() -> None:
    """Serve as told on standard input; say on standard output when requests are answered, or why not."""
    about = json.loads(sys.stdin.read())
    config = ServingConfig.model_validate(about["config"])
    logs.configure(config.logging)
    folder, number, workers = about.pop("board")
    board = Board(Path(folder), number, workers)
    options = ProcessOptions(
        release=board.announced() or Path(about["release"]),
        work=Path(about["work"]),
        host=about["host"],
        port=about["port"],
        redis_url=about["redis_url"],
        embedded=about["embedded"],
        config=config,
        shared_port=True,
        board=board,
        tenants=tuple(TenantSpec.model_validate(spec) for spec in about["tenants"]),
    )
    try:
        process.run(options, lambda port: print(json.dumps({"port": port}), flush=True))
    except AisleError as e:
        print(json.dumps({"error": str(e)}), flush=True)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
