"""A release that is not whole is refused by name, and the old one answers on."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aisle.v1.recommender_pb2 import RecommendRequest
from core.artifact import MANIFEST, verify
from core.schema import DAY
from core.work import Work
from serving.client import Client, ServerError
from serving.config import ServingConfig
from serving.process import ServingProcess
from serving.release import Release
from serving.resident import Resident
from tests.serving.conftest import options_for
from tests.serving.shop import END, make_shop

KNN = Path("sources/item_knn/scores.npy")
POPULARITY = Path("sources/popularity/scores.npy")


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Another night's release of the same shop."""
    return make_shop(tmp_path_factory.mktemp("later"), end=END + DAY, sales=2)


@pytest.fixture
def copy(later: Work, tmp_path: Path) -> Path:
    """One to damage, beside its user state."""
    shutil.copytree(later.root / "user_state", tmp_path / "user_state")
    path = tmp_path / "releases" / later.current.resolve().name
    shutil.copytree(later.current.resolve(), path)
    return path


def flip_a_byte(release: Path, _: Path) -> None:
    found = bytearray((release / KNN).read_bytes())
    found[-1] ^= 1
    (release / KNN).write_bytes(found)


def cut(release: Path, _: Path) -> None:
    (release / KNN).write_bytes((release / KNN).read_bytes()[:-4])


def remove(release: Path, _: Path) -> None:
    (release / KNN).unlink()


def take_a_part_of_another(release: Path, other: Path) -> None:
    shutil.rmtree(release / POPULARITY.parent)
    shutil.copytree(other / POPULARITY.parent, release / POPULARITY.parent)


def take_the_manifest_of_another(release: Path, other: Path) -> None:
    shutil.copy(other / MANIFEST, release / MANIFEST)


def edit(release: Path, _: Path) -> None:
    (release / "settings.json").write_bytes(
        (release / "settings.json").read_bytes().replace(b'"warm_events": 3', b'"warm_events": 4')
    )


def add(release: Path, _: Path) -> None:
    (release / "sources" / "ranker.txt").write_text("of somebody else")


def garble_manifest(release: Path, _: Path) -> None:
    (release / MANIFEST).write_text("{")


def newer(release: Path, _: Path) -> None:
    text = (release / MANIFEST).read_text()
    (release / MANIFEST).write_text(text.replace('"format_version": 1', '"format_version": 9'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, rf"{KNN}: sha256 [0-9a-f]+\.\.\., the manifest says [0-9a-f]+\.\.\.: truncated or altered"),
        (cut, rf"{KNN}: .*truncated or altered"),
        (remove, rf"{KNN}: missing, the manifest lists it"),
        (take_a_part_of_another, rf"{POPULARITY}: sha256 [0-9a-f]+\.\.\., the manifest says [0-9a-f]+"),
        (take_the_manifest_of_another, r"sources/.*: sha256 [0-9a-f]+\.\.\., the manifest says"),
        (edit, r"settings\.json: sha256"),
        (add, r"sources/ranker\.txt: not in the manifest"),
        (garble_manifest, r"manifest\.json: altered or not a manifest"),
        (newer, r"format version 9, this Aisle reads 1"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_damaged_release_is_refused_and_the_old_one_answers_on(
    ask: Client, shop: Work, copy: Path, damage: Callable[[Path, Path], None], message: str
) -> None:
    before = ask.recommend(RecommendRequest(user_id="ann"))
    damage(copy, shop.current.resolve())
    with pytest.raises(ServerError, match=rf"FAILED_PRECONDITION: .*{message}"):
        ask.load_release(str(copy))
    after = ask.recommend(RecommendRequest(user_id="ann"))
    assert (after.release, after.results) == (before.release, before.results)


def test_a_path_without_a_release_is_not_found(ask: Client, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"NOT_FOUND: .*no-such: no such artifact"):
        ask.load_release(str(tmp_path / "no-such"))


def test_a_swap_brings_its_user_state(shop: Work, later: Work, redis_url: str, config: ServingConfig) -> None:
    process = ServingProcess(options_for(later, redis_url, config))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        assert ask.recommend(RecommendRequest(user_id="ann")).release == later.current.resolve().name
        loaded = ask.load_release(str(later.current))
        assert (loaded.release, loaded.previous, loaded.workers) == (loaded.release, loaded.release, 1)
        # another shop's release: its user state is not under this WORK, and that is said
        loaded = ask.load_release(str(shop.current))
        assert (loaded.release, loaded.previous) == (shop.current.resolve().name, later.current.resolve().name)
        found = ask.recommend(RecommendRequest(user_id="ann"))
        assert (found.release, found.fallback_reason) == (loaded.release, "user-state-missing")
        assert ask.status().integrity == "verified"
    process.stop()


def test_start_takes_the_stamp_or_checks_in_full(copy: Path) -> None:
    assert Resident.open(copy, lambda _: None).integrity == "stamp"
    os.utime(copy / KNN)  # as copying without times does: the stamp no longer fits
    assert Resident.open(copy, lambda _: None).integrity == "verified"
    assert Resident.open(copy, lambda _: None).integrity == "stamp"
    flip_a_byte(copy, copy)
    with pytest.raises(Exception, match=rf"{KNN}: sha256"):
        Resident.open(copy, lambda _: None)


def test_damage_under_a_running_server_is_found_beside_the_answers(copy: Path) -> None:
    resident = Resident(Release.open(copy), "stamp")
    flip_a_byte(copy, copy)
    resident.check_in_background().join(20)
    assert f"{KNN}: sha256" in resident.integrity


def test_the_fixture_is_whole(copy: Path) -> None:
    assert len(verify(copy).files) > 20
