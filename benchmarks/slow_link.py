"""A Unix socket before another one, in a process of its own, that holds every piece of an answer back for as long as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_PIECE: Final = 1 << 20
_READY_SECONDS: Final = 60.0


class SlowLink:
    """From `path` to `target`; `delay` in seconds, changed at any time. Use it in a `with` block."""

    def __init__(self, path: Path, target: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._delay, self._ready = context.Value("d", 0.0), context.Event()
        arguments = (str(path), str(target), self._delay, self._ready)
        self._process = context.Process(target=_forward, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._ready.wait(_READY_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()

    def hold_back(self, seconds: float) -> None:
        """Every piece of an answer from now on."""
        self._delay.value = seconds


def _forward(path: str, target: str, delay: Any, ready: Any) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_unix_connection(target)
        except OSError:  # nobody is there: neither are we
            writer.close()
            return
        await asyncio.gather(_copy(reader, forth, None), _copy(back, writer, delay))

    async def run() -> None:
        server = await asyncio.start_unix_server(connected, path)
        ready.set()
        await server.serve_forever()

    asyncio.run(run())


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Any) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            if delay is not None and delay.value:
                await asyncio.sleep(delay.value)
            writer.write(piece)
            await writer.drain()
    writer.close()
