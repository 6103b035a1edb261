"""Takes people out of the spool: events on a server's disk that Redis has yet to take (serving.spool)."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

from core.erasure import Forgotten, Verdict
from pipeline.erase_tables import Tally
from serving.spool import Spool


def erase_spool(folder: Path, gone: Forgotten, tally: Tally) -> bool:
    """Take `gone` out of the files that no process owns; whether any named them.

    A server's own files are left to it: it hands them to Redis within moments, or the last search finds them.
    """
    before = tally.files
    with closing(Spool(folder, sys.maxsize)) as spool:
        spool.adopt()
        for segment in spool.segments:
            payloads = [(end, json.loads(payload)) for end, payload in segment.frames()]
            if not any(gone.verdict_of(event) is not Verdict.KEEP for _, events in payloads for event in events):
                continue
            for _, events in payloads:
                kept = _without(events, gone, tally)
                if kept:
                    spool.append(json.dumps(kept, ensure_ascii=False).encode())
            # only now: a kill before leaves events twice, which Redis takes once
            segment.replayed = payloads[-1][0]
            spool.release(segment)
            tally.files += 1
    return tally.files > before


def _without(events: list[dict[str, object]], gone: Forgotten, tally: Tally) -> list[dict[str, object]]:
    verdicts = [gone.verdict_of(event) for event in events]
    tally.rows += sum(v is not Verdict.KEEP for v in verdicts)
    kept = ((e, v) for e, v in zip(events, verdicts, strict=True) if v is not Verdict.DROP)
    return [gone.blanked(e) if v is Verdict.BLANK else e for e, v in kept]
