"""What goes together with the items that this person chose last."""

from __future__ import annotations

from typing import ClassVar

from retrieval.sources.transitions import Transitions


class Covisitation(Transitions):
    """Like transitions, but over pairs without a direction that lie close together in time."""

    name: ClassVar[str] = "covisitation"
    table: ClassVar[str] = "covisits"
