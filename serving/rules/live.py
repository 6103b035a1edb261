"""The rules of a server: read at the start, read again when a file changes, and bound to the items that it shows."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from core.errors import AisleError
from core.marked import signature
from core.schema import MINUTE
from serving.filters.binding import changes_by_itself
from serving.filters.syntax import parse
from serving.per_release import PerRelease
from serving.release import Release
from serving.rules.bound import PageRules, Problem, bound, check_fit
from serving.rules.load import Rule, RuleSet, load_rules
from serving.rules.schema import Freshness

_LOG = logging.getLogger(__name__)
_KEPT: Final = 64  # bound sets: one for each group of placements that share their rules


class Rules:
    """A set of rules, asked for by many threads."""

    def __init__(self, rules: RuleSet) -> None:
        self.set = rules
        self._by_clock = any(_reads_clock(rule) for rule in rules.rules)
        self._lock = threading.Lock()
        self._bound: PerRelease[OrderedDict[tuple[tuple[int, ...], int], PageRules]] = PerRelease(OrderedDict)

    def of(self, release: Release, placement: str, now: int) -> PageRules | None:
        """What holds on a page at `now` (microseconds); None: nothing. Ages are counted to the minute."""
        active = tuple(n for n, rule in enumerate(self.set.rules) if rule.holds(placement, now))
        if not active:
            return None
        minute = now // MINUTE if self._by_clock else 0
        key = (active, minute)
        with self._lock:
            kept = self._bound.of(release)
            found = kept.get(key)
        if found is None:
            found = bound([self.set.rules[n] for n in active], release, minute * MINUTE)
            with self._lock:
                if self._bound.holds(release, kept):
                    kept[key] = found
                    while len(kept) > _KEPT:
                        kept.popitem(last=False)
        return found


def _reads_clock(rule: Rule) -> bool:
    where = getattr(rule.spec, "where", None)
    return isinstance(rule.spec, Freshness) or (where is not None and changes_by_itself(parse(where)))


class LiveRules:
    """Follows a folder. A set that does not fit never replaces one that does.

    Args:
        folder: Of rule files; None: there are no rules.
        release: Says what answers now.
        clock: Microseconds.
        seconds: Between two looks at the folder.
    """

    def __init__(
        self, folder: Path | None, release: Callable[[], Release], clock: Callable[[], int], seconds: float
    ) -> None:
        self.folder, self._release, self._clock, self._seconds = folder, release, clock, seconds
        self.problem = ""  # why the newest files are not in use
        self._signature = self._seen = "" if folder is None else signature(folder)
        self.rules = Rules(RuleSet() if folder is None else load_rules(folder))
        self._off: tuple[Rules | None, Release | None, tuple[Problem, ...]] = (None, None, ())  # what `off` said last
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Say what is off, and begin to look for changes."""
        for problem in self.off():
            _LOG.warning("%s/%s", self.folder, problem)
        if self.folder is not None:
            self._thread = threading.Thread(target=self._follow, name="rules", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def off(self) -> tuple[Problem, ...]:
        """The rules that the release of now cannot follow, in force or not."""
        rules = self.rules
        if not rules.set.rules:
            return ()
        release = self._release()
        if self._off[0] is not rules or self._off[1] is not release:
            self._off = (rules, release, bound(rules.set.rules, release, self._clock()).problems)
        return self._off[2]

    def look(self) -> bool:
        """Take up what changed in the folder, once it has stayed the same for two looks; whether the rules are new."""
        if self.folder is None:
            return False
        seen, self._seen = self._seen, signature(self.folder)
        if self._seen != seen or self._seen == self._signature:
            return False
        self._signature = seen
        try:
            found = load_rules(self.folder)
            check_fit(found.rules, self._release(), self._clock(), self.folder)
        except (AisleError, OSError) as e:
            self.problem = str(e)
            _LOG.error("the rules stay as they were: %s", e)
            return False
        self.rules, self.problem = Rules(found), ""
        _LOG.warning("new rules: %d of %d files, %s", len(found.rules), found.files, found.id or "none")
        return True

    def _follow(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.look()
