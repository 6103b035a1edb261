"""The rules of a server: read at the start, read again when a file changes, and bound to the items that it shows."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from core.marked import signature
from core.schema import MINUTE
from serving.filters.binding import changes_by_itself
from serving.filters.syntax import parse
from serving.followed import Followed
from serving.per_release import PerRelease
from serving.release import Release
from serving.rules.bound import PageRules, Problem, bound, check_fit
from serving.rules.load import Rule, RuleSet, load_rules
from serving.rules.schema import Freshness, Hide, Include

_LOG = logging.getLogger(__name__)
_KEPT: Final = 64  # bound sets: one for each group of placements that share their rules


class Rules:
    """A set of rules, asked for by many threads."""

    def __init__(self, rules: RuleSet) -> None:
        self.set = rules
        self._by_clock = any(_reads_clock(rule) for rule in rules.rules)
        self._lock = threading.Lock()
        self._bound: PerRelease[OrderedDict[tuple[tuple[int, ...], int], PageRules]] = PerRelease(OrderedDict)

    def of(self, release: Release, placement: str, now: int, *, arranging: bool = True) -> PageRules | None:
        """What holds on a page at `now` (microseconds); None: nothing. Ages are counted to the minute.

        `arranging`: False leaves out all rules but those that say what may be shown at all.
        """
        active = tuple(
            n
            for n, rule in enumerate(self.set.rules)
            if rule.holds(placement, now) and (arranging or isinstance(rule.spec, Hide | Include))
        )
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
        self.folder, self._release, self._clock = folder, release, clock
        self._off: tuple[Rules | None, Release | None, tuple[Problem, ...]] = (None, None, ())  # what `off` said last
        self._followed: Followed[Rules] | None = None
        if folder is not None:
            self._followed = Followed("rules", lambda: signature(folder), lambda: self._read(folder), seconds, _said)

    @property
    def rules(self) -> Rules:
        """Those that fit last."""
        return _NONE if self._followed is None else self._followed.value

    @property
    def problem(self) -> str:
        """Why the newest files are not in use."""
        return "" if self._followed is None else self._followed.problem

    def start(self) -> None:
        """Say what is off, and begin to look for changes."""
        for problem in self.off():
            _LOG.warning("%s/%s", self.folder, problem)
        if self._followed is not None:
            self._followed.start()

    def stop(self) -> None:
        """Look no more."""
        if self._followed is not None:
            self._followed.stop()

    def look(self) -> bool:
        """Take up what changed in the folder, once it has stayed the same for two looks; whether the rules are new."""
        return self._followed is not None and self._followed.look()

    def off(self) -> tuple[Problem, ...]:
        """The rules that the release of now cannot follow, in force or not."""
        rules = self.rules
        if not rules.set.rules:
            return ()
        release = self._release()
        if self._off[0] is not rules or self._off[1] is not release:
            self._off = (rules, release, bound(rules.set.rules, release, self._clock()).problems)
        return self._off[2]

    def _read(self, folder: Path) -> Rules:
        """The rules of the files; once there are some, others must fit the release (at the start a server says what does not, and goes on)."""
        found = load_rules(folder)
        if self._followed is not None:
            check_fit(found.rules, self._release(), self._clock(), folder)
        return Rules(found)


_NONE: Final = Rules(RuleSet())


def _said(rules: Rules) -> str:
    return f"{len(rules.set.rules)} of {rules.set.files} files, {rules.set.id or 'none'}"
