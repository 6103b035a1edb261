"""Loading the user state that a release needs into a Redis of our own."""

from __future__ import annotations

import logging

from core.errors import AisleError
from core.work import Work
from serving.materialize import is_materialized, materialize
from serving.release import Release

_LOG = logging.getLogger(__name__)


def materialize_if_missing(url: str, tenant: str, work: Work, release: Release) -> None:
    """Load the user state of `release` into our own Redis when it is not there. Without it answers are degraded, so nothing here is fatal."""
    window_end, events = release.window_end, release.settings.history_events
    try:
        if not is_materialized(url, tenant, window_end, release.state_id, events):
            done = materialize(url, tenant, work.user_state(window_end), window_end, release.state_id, events)
            _LOG.warning("loaded the histories of %d people into Redis in %.1f s", done.users, done.seconds)
    except AisleError as e:
        _LOG.warning("answers do without the histories of %s: %s", release.name, e)
