"""Every key that Aisle has in Redis.

| key                                                    | holds                                                                       |
|--------------------------------------------------------|-----------------------------------------------------------------------------|
| `aisle:T:<schema>:<window_end>.<state>:h:<person key>` | a person's history, facts, attributes up to the window's end (pack_person)  |
| `aisle:T:<schema>:<window_end>.<state>:complete`       | written last: JSON about the window. Without it the window does not count   |
| `aisle:T:windows`                                      | sorted set of the windows' prefixes by the time they were written           |
| `aisle:T:live:<u:id, v:id or s:session>`               | list of that one's live events, newest first (packing.pack_live)            |
| `aisle:T:event:<hash>`                                 | there while an event with this id is remembered as written                  |
| `aisle:T:events`                                       | stream of every event written, as JSON, for the log that `prepare` reads    |
| `aisle:T:shown`                                        | stream of pages served (serving.shown), for the log of recommendations      |
| `aisle:T:shadows`                                      | stream of pages that shadows would have answered (serving.arms.shadow)      |
| `aisle:T:watch:<experiment>:<id>:<guard>:<arm>`        | set of hashes of units to which it happened (serving.arms.watch)            |
| `aisle:T:trending`                                     | stream of what trended (serving.trending_log), for the log                  |
| `aisle:T:trending:<period>`                            | there while a process has logged what trended in this period                |
| `aisle:T:erasures`                                     | hash of people to be forgotten in the files (serving.forget.Wishes)         |
| `aisle:T:tokens:<API key's id, or nothing>`            | hash: what is left of a rate limit, and when it was last refilled           |
| `aisle:T:takers:<API key's id, or nothing>`            | sorted set of the processes that take from it, by time                      |
| `aisle:T:unit:<session>`                               | hash: what bandits gave a session, and its rewards (serving.feedback)       |
| `aisle:T:units:<person key>`                           | set of the sessions of a person that are such units                         |
| `aisle:T:bandit:<tag>:counts`                          | hash: units and rewards of a bandit, by time, version and arm               |
| `aisle:T:bandit:<tag>:shares`                          | hash: the versions of its shares, and the newest as JSON (serving.bandits)  |
| `aisle:T:bandits`                                      | which process learns now                                                    |

T is the tenant; `<schema>` fingerprints the packed layout, so that another version of Aisle never misreads; `<state>` fingerprints the user
state, so that two data sets that end at the same moment never mix.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.packing import SCHEMA


@dataclass(frozen=True)
class Keys:
    """The keys of one tenant."""

    tenant: str

    @property
    def prefix(self) -> str:
        """What every key begins with."""
        return f"aisle:{self.tenant}:"

    def window(self, window_end: int, state_id: str) -> str:
        """Prefix of one materialised window."""
        return f"aisle:{self.tenant}:{SCHEMA}:{window_end}.{state_id[:12]}"

    @staticmethod
    def history(window: str, person: str) -> str:
        """History and facts of a person key (core.ids.person_key) in a window."""
        return f"{window}:h:{person}"

    @staticmethod
    def complete(window: str) -> str:
        """The marker of a whole window."""
        return f"{window}:complete"

    @property
    def windows(self) -> str:
        """Index of windows."""
        return f"aisle:{self.tenant}:windows"

    def live(self, who: str) -> str:
        """Live events of a person key, or of a session (`session_key`)."""
        return f"aisle:{self.tenant}:live:{who}"

    def event(self, event_hash: int) -> str:
        """Memory of one event written."""
        return f"aisle:{self.tenant}:event:{event_hash:016x}"

    @property
    def events(self) -> str:
        """Stream of events."""
        return f"aisle:{self.tenant}:events"

    @property
    def shown(self) -> str:
        """Stream of pages served."""
        return f"aisle:{self.tenant}:shown"

    @property
    def shadows(self) -> str:
        """Stream of pages that shadows would have answered."""
        return f"aisle:{self.tenant}:shadows"

    def watched(self, experiment: str, id: str, guard: str, arm: str) -> str:
        """Units of an arm to which something happened that a guard counts; `id` is of what the experiment's file says."""
        return f"aisle:{self.tenant}:watch:{experiment}:{id}:{guard}:{arm}"

    @property
    def trending(self) -> str:
        """Stream of what trended."""
        return f"aisle:{self.tenant}:trending"

    def trending_period(self, period: int) -> str:
        """Mark of one period whose trend is logged."""
        return f"{self.trending}:{period}"

    @property
    def erasures(self) -> str:
        """Wishes to be forgotten."""
        return f"aisle:{self.tenant}:erasures"

    def tokens(self, api_key: str) -> str:
        """Budget of requests of the tenant, or of one of its API keys."""
        return f"aisle:{self.tenant}:tokens:{api_key}"

    def takers(self, api_key: str) -> str:
        """Who takes from that budget."""
        return f"aisle:{self.tenant}:takers:{api_key}"

    def unit(self, session_id: str) -> str:
        """What bandits know of a session."""
        return f"aisle:{self.tenant}:unit:{session_id}"

    def units(self, who: str) -> str:
        """Sessions of a person key that bandits know."""
        return f"aisle:{self.tenant}:units:{who}"

    def counts(self, tag: str) -> str:
        """What a bandit has seen (`experiments.learning.Rewarding.tag`)."""
        return f"aisle:{self.tenant}:bandit:{tag}:counts"

    def shares(self, tag: str) -> str:
        """What a bandit made of it."""
        return f"aisle:{self.tenant}:bandit:{tag}:shares"

    @property
    def learner(self) -> str:
        """The lease of the process that learns."""
        return f"aisle:{self.tenant}:bandits"


def session_key(session_id: str) -> str:
    """Stands beside `core.ids.person_key`: a session's name among those who have live events."""
    return f"s:{session_id}"
