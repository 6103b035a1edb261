"""A client for every worker of a server: the kernel gives a new connection to one of them, and says not to which."""

from __future__ import annotations

import time
from typing import Final

from core.errors import AisleError
from serving.client import Client

_PATIENCE_SECONDS: Final = 120.0


class Connections:
    """One client a worker, until it is closed."""

    def __init__(self, address: str, workers: int) -> None:
        """Connect as often as it takes.

        Raises:
            AisleError: Not so many workers answer.
        """
        self._of: dict[int, Client] = {}
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while len(self._of) < workers:
            client = Client(address, timeout=60)
            if self._of.setdefault(client.status().pid, client) is not client:
                client.close()
            if time.monotonic() > deadline:
                raise AisleError(f"{len(self._of)} of {workers} workers answer at {address}")
        self.all = list(self._of.values())
        self.any = self.all[0]

    def close(self) -> None:
        """All of them."""
        for client in self.all:
            client.close()
