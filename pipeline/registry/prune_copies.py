"""Removes old releases at a remote, and the files that no release there names any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from pipeline.registry.remote import Remote

Say = Callable[[str], None]
_HOUR_SECONDS: Final = 3_600


def prune_copies(remote: Remote, keep: int, spare_hours: float, say: Say, *, dry_run: bool = False) -> dict[str, Any]:
    """Keep the newest `keep` releases and the files they name.

    Files younger than `spare_hours` stay as well: a push may be about to name them. One that is under way longer looks again once it is done.

    Args:
        remote: Where.
        keep: How many releases stay.
        spare_hours: Of files that nothing names.
        say: Progress.
        dry_run: Nothing goes.
    """
    copies = remote.copies()
    kept, gone = copies[:keep], copies[keep:]
    if not dry_run:
        for copy in gone:
            remote.hide(copy)  # first: nobody finds a release whose files are going
    named: set[str] = set()
    for sha in {sha for copy in kept for sha in (copy.release, copy.user_state)}:
        named |= {sha} | {entry.sha256 for entry in remote.manifest(sha)[0].files.values()}
    oldest = time.time() - spare_hours * _HOUR_SECONDS
    unnamed = {sha: size for sha, (size, changed) in remote.objects().items() if sha not in named and changed <= oldest}
    if not dry_run:
        for sha in unnamed:
            remote.remove(sha)
    say(
        f"{'would remove' if dry_run else 'removed'} {len(gone)} releases and {len(unnamed)} files, "
        f"{sum(unnamed.values()) / 1e6:,.1f} MB, from {remote.url}"
    )
    return {
        "releases": [c.name for c in gone],
        "kept": [c.name for c in kept],
        "files": len(unnamed),
        "bytes": sum(unnamed.values()),
    }
