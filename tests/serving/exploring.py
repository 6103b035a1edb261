"""Settings of exploration for tests."""

from __future__ import annotations

from serving.config import ExplorationConfig, load_serving


def drawing(**values: object) -> ExplorationConfig:
    """The defaults with other values; `new_items__share` is that of `new_items`."""
    config = load_serving().exploration
    inner = {key.removeprefix("new_items__"): v for key, v in values.items() if key.startswith("new_items__")}
    outer = {key: v for key, v in values.items() if not key.startswith("new_items__")}
    return config.model_copy(update={**outer, "new_items": config.new_items.model_copy(update=inner)})
