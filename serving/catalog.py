"""The live catalog of one process: writes calls into the log, and keeps the release that answers up to date with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.catalog_entry import Entry, Kind
from core.catalog_log import CatalogLog
from core.catalog_users import CatalogUser
from core.errors import AisleError
from core.schema import Column
from serving.config import CatalogConfig
from serving.failures import Failure, StoreError
from serving.live_release import LiveRelease
from serving.release import Release

_LOG = logging.getLogger(__name__)


class CatalogFullError(AisleError):
    """There may be no more new items."""

    grpc_status = "RESOURCE_EXHAUSTED"


@dataclass(frozen=True)
class Written:
    """What a call did."""

    sequence: int
    there: int  # of the call's items, those that existed before
    missing: tuple[str, ...]  # the others


class Catalog:
    """Opened before the release; `start` once that is there."""

    def __init__(self, folder: Path, config: CatalogConfig, clock: Callable[[], int]) -> None:
        self._user = CatalogUser(folder)
        self._log, self._config, self._clock = CatalogLog(folder), config, clock
        self.failure = ""  # of the last write
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def log_bytes(self) -> int:
        """Size of the committed log."""
        return self._log.committed

    def over(self, release: Release) -> LiveRelease:
        """`release` with every entry of the log that it has not seen."""
        if release.catalog_log == self._log.id:
            self._log.count_from(release.catalog_sequence)
        return LiveRelease(release, self._log, self._clock)

    def start(self, live: Callable[[], LiveRelease | None]) -> None:
        """Follow the log beside the requests; `live` says for which release."""
        self._thread = threading.Thread(target=self._follow, args=(live,), name="catalog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and let go of the log: nothing may be asked of a release any more."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._log.close()
        self._user.close()

    def write(self, entry: Entry, live: LiveRelease) -> Written:
        """Make `entry` hold: on disk, in this process altogether, in the others but for the vectors of upserted items.

        Raises:
            StoreError: The log does not take it; nothing was stored.
            CatalogFullError: It would bring more new items than there may be; nothing was stored.
        """
        ids = [row[Column.ITEM_ID] for row in entry.items] or list(entry.item_ids)
        missing: list[str] = []

        def payload() -> bytes:
            live.take()  # nobody else writes now: what is there is what the entry meets
            missing[:] = [i for i in ids if not live.there(i)]
            if entry.kind is Kind.UPSERT and live.new_with(ids) > self._config.new_items:
                raise CatalogFullError(
                    f"as many new items as `catalog.new_items` allows ({self._config.new_items}) wait for a nightly run: nothing was stored"
                )
            return entry.payload()

        try:
            sequence = self._log.append(payload)
        except (OSError, AisleError) as e:
            refusal = StoreError(Failure.CATALOG_LOG, e.strerror or str(e)) if isinstance(e, OSError) else e
            self.failure = str(refusal)
            raise refusal from None
        self.failure = ""
        live.take()
        live.absorb()
        return Written(sequence, len(ids) - len(missing), tuple(missing))

    def _follow(self, live: Callable[[], LiveRelease | None]) -> None:
        while not self._stopping.wait(self._config.follow_ms / 1e3):
            one = live()
            if one is not None:
                try:
                    _ = one.current
                    one.absorb()
                except Exception:  # noqa: BLE001 - the next change may be fine, and requests go on
                    _LOG.exception("the catalog's log was not followed")
                    self._stopping.wait(1.0)
