"""The demo of experiments: a bandit is dropped into the folder of a running server, shoppers like one arm better, and the shares follow."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from aisle.v1.admin_pb2 import ExperimentStatus
from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from core import atomic
from core.errors import AisleError
from experiments.files import STOPPED
from pipeline.served import Served
from serving.client import Client

NAME: Final = "varied-home"
USUAL: Final = "usual"
BETTER: Final = "varied"
RATES: Final = {USUAL: 0.10, BETTER: 0.25}  # of sessions that click: planted, and unknown to the server
ENOUGH: Final = 0.85  # of new visits in the better arm
_VISITS: Final = 2_000  # and the report has something to say
_PAUSE_SECONDS: Final = 0.02  # of a shopper between two sessions
_LOOK_SECONDS: Final = 3.0
_WINDOW_SECONDS: Final = 3.6
FILE: Final = f"""\
name: {NAME}
owner: demo
hypothesis: A home page with more different items brings more sessions that click.
unit: session                    # a visit stays in the arm that it met first
arms:
  {USUAL}: {{}}
  {BETTER}: {{settings: {{diversity_level: medium-diversity}}}}
control: {USUAL}
eligible: {{placements: [home]}}
allocation: {{policy: thompson, update_seconds: 2}}
primary: {{name: clicks, events: [click]}}
lift: 0.5
attribution_hours: 0.001         # 3.6 seconds: a visit is over soon here
"""


@dataclass(frozen=True)
class Look:
    """What a status said."""

    seconds: float  # since the file was dropped
    version: int
    shares: dict[str, float]
    exposed: dict[str, int]
    rewarded: dict[str, int]
    ratio_p: float

    @property
    def is_enough(self) -> bool:
        """Whether the demo has shown what it shows."""
        return self.shares[BETTER] >= ENOUGH and sum(self.exposed.values()) >= _VISITS


@dataclass
class Story:
    """What happened."""

    taken_up: float = 0.0  # seconds from the file to the first page that names an arm
    looks: list[Look] = field(default_factory=list)
    stopped_after: float = 0.0  # seconds from the kill switch to the last page that named an arm
    sessions: int = 0
    problem: str = ""


class Shoppers:
    """Visits of simulated shoppers, one page each, in threads: they click the first item as often as their arm's rate says."""

    def __init__(self, address: str, threads: int, seed: int) -> None:
        self._address, self._seed = address, seed
        self._stopping, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(threads)]
        self.sessions: Counter[str] = Counter()  # by arm; "" of no experiment
        self.last: dict[str, float] = {}  # when, by time.monotonic(): the request of the newest page of an arm
        self.first = 0.0  # when the first page of an arm was there
        self.problem = ""

    def __enter__(self) -> Shoppers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        rng = np.random.default_rng([self._seed, number])
        at = 0
        with Client(self._address, timeout=20) as ask:
            while not self._stopping.wait(_PAUSE_SECONDS):
                at += 1
                try:
                    self._visit(ask, f"{number}-{at}", float(rng.random()))
                except AisleError as e:
                    self.problem = str(e)
                    return

    def _visit(self, ask: Client, who: str, draw: float) -> None:
        began = time.monotonic()
        page = ask.recommend(
            RecommendRequest(visitor_id=f"visitor-{who}", session_id=f"visit-{who}", placement="home", page_size=8)
        )
        arm = page.experiment_assignments[0].arm if page.experiment_assignments else ""
        with self._lock:
            self.sessions[arm] += 1
            self.last[arm] = began
            if arm and not self.first:
                self.first = time.monotonic()
        if draw < RATES.get(arm, RATES[USUAL]):
            click = Event(event_type="click", item_id=page.results[0].item_id, visitor_id=f"visitor-{who}")
            click.session_id, click.attribution_token = f"visit-{who}", page.attribution_token
            ask.write_events([click])


def play(release: Path, place: Path, seconds: float, seed: int, tell: Callable[[str], None], threads: int = 3) -> Story:
    """Everything, in the empty folder `place`; `seconds`: for how long the experiment may run.

    Raises:
        AisleError: A process failed, or the experiment was not taken up.
    """
    work, folder, story = place / "work", place / "experiments", Story()
    (work / "releases").mkdir(parents=True)
    folder.mkdir()
    with (
        (place / "server.log").open("w") as log,
        Served(release, "--work", work, "--experiments", folder, stderr=log) as server,
        Client(server.address, timeout=20) as ask,
        Shoppers(server.address, threads, seed) as shoppers,
    ):
        _until(lambda: shoppers.sessions[""] >= 20, shoppers)
        tell(f"a server runs, shoppers come; {folder} is empty: nobody is in an experiment")
        began = time.monotonic()
        with atomic.new_file(folder / f"{NAME}.yaml") as beside:
            beside.write_text(FILE)
        _until(lambda: shoppers.first > 0, shoppers)
        story.taken_up = shoppers.first - began
        tell(f"{NAME}.yaml was dropped into it; {story.taken_up:.1f} s later pages name their arm")
        while time.monotonic() - began < seconds and not (story.looks and story.looks[-1].is_enough):
            threading.Event().wait(_LOOK_SECONDS)
            story.looks.append(_look(_status(ask), time.monotonic() - began))
            tell(_said(story.looks[-1]))
        began = time.monotonic()
        with atomic.new_file(folder / f"{NAME}{STOPPED}") as beside:
            beside.touch()
        threading.Event().wait(2.0)
        story.stopped_after = max(0.0, *(shoppers.last.get(arm, began) - began for arm in RATES))
        before = shoppers.sessions[""]
        _until(lambda: shoppers.sessions[""] > before + 10, shoppers)
        tell(f"the kill switch was set: {story.stopped_after:.1f} s later nobody was in it any more")
        threading.Event().wait(_WINDOW_SECONDS)  # the last visits' windows
        story.sessions, story.problem = shoppers.sessions.total(), shoppers.problem
        _sink(place)
    return story


def _until(what: Callable[[], bool], shoppers: Shoppers, seconds: float = 60.0) -> None:
    end, pause = time.monotonic() + seconds, threading.Event()
    while not what():
        if shoppers.problem or time.monotonic() > end:
            raise AisleError(f"the shoppers came no further: {shoppers.problem or f'{seconds:.0f} s passed'}")
        pause.wait(0.02)


def _status(ask: Client) -> ExperimentStatus:
    found = {e.name: e for e in ask.status().experiments.experiments}
    return found[NAME]


def _look(status: ExperimentStatus, seconds: float) -> Look:
    shares, exposed, rewarded = dict(status.shares), dict(status.exposed), dict(status.rewarded)
    return Look(seconds, status.version, shares, exposed, rewarded, status.sample_ratio_p)


def _said(look: Look) -> str:
    arms = ", ".join(
        f"{arm} {look.shares[arm]:.0%} ({look.rewarded.get(arm, 0)} of {look.exposed.get(arm, 0)} visits clicked)"
        for arm in RATES
    )
    return f"{look.seconds:4.0f} s, version {look.version} of the shares: {arms}"


def _sink(place: Path) -> None:
    """The logs of pages and events, as the night reads them."""
    command = ["events", "sink", "--data", place / "data", "--work", place / "work"]
    ran = subprocess.run([sys.executable, "-m", "cli", *map(str, command)], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise AisleError(f"the events did not reach the log: {ran.stderr.strip().splitlines()[-1]}")
    json.loads(ran.stdout.splitlines()[-1])
