"""Configuration: defaults load, overlays merge, and a mistake is one line that names the place and the fix."""

from pathlib import Path

import pytest

from core.config import PipelineConfig, checked, load_pipeline
from core.errors import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_the_defaults_load_and_round_trip() -> None:
    config = load_pipeline()
    assert checked(PipelineConfig, config.model_dump(mode="json"), "again") == config


def test_a_users_file_needs_only_what_differs(tmp_path: Path) -> None:
    config = load_pipeline(write(tmp_path, "data:\n  gains:\n    click: 0.5\n"))
    assert config.data.gains["click"] == 0.5  # type: ignore[index]
    assert config.time == load_pipeline().time
    assert config.fingerprint() != load_pipeline().fingerprint()
    assert load_pipeline(write(tmp_path, "")) == load_pipeline()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dta: {}", "unknown key 'dta'; did you mean 'data'"),
        ("data: {sesion_gap_minutes: 3}", "unknown key 'data.sesion_gap_minutes'; did you mean 'session_gap_minutes'"),
        ("data: {gains: {purchase: 1}}", "unknown event type 'purchase' in 'gains'; did you mean 'purchase-complete'"),
        ("data: {max_rejected_share: 2}", "data.max_rejected_share: Input should be less than or equal to 1 .got 2."),
        ("data: {max_rejected_share: .nan}", "data.max_rejected_share: "),
        ("time: {ranker: 0.95}", "time: expected ranker < validation < test, got 0.95"),
        ("evaluation: {seen: maybe}", "evaluation.seen: Input should be 'auto', 'keep' or 'remove'"),
        ("- a\n- b", "holds a list, expected a mapping"),
        ("data: {\n  a: [", ":2: not valid YAML|:3: not valid YAML"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as e:
        load_pipeline(write(tmp_path, text))
    assert "\n" not in str(e.value)
    assert "mine.yaml" in str(e.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_pipeline(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="a directory"):
        load_pipeline(tmp_path)


def test_binary_junk_is_not_yaml(tmp_path: Path) -> None:
    path = tmp_path / "junk.yaml"
    path.write_bytes(b"a: \x00\xff")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_pipeline(path)
