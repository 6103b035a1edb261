"""Prepared data and user state without a person; the search for what is left; SQLite; the spool. A small shop from literal rows, no Spark."""

# bazel: size=medium

from __future__ import annotations

import json
import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core import artifact, atomic
from core.columns import AnyColumn, Coded, Tags, Texts
from core.erasure import Forgotten
from core.errors import ArtifactError, InputError
from core.ids import NO_ROW
from core.prepared import Prepared
from core.schema import DAY, Column
from core.work import Work
from pipeline.erase import run
from pipeline.erase_artifacts import erase_artifacts, repair
from pipeline.erase_search import still_held
from pipeline.erase_spool import erase_spool
from pipeline.erase_sqlite import erase_sqlite
from pipeline.erase_tables import Tally
from pipeline.publish import write_user_state
from serving.config import load_serving
from serving.spool import Spool
from serving.user_state import ATTRIBUTES, UserState, state_id, write_attributes
from tests.prepared_fixture import make_prepared

T = 1_700_000_000_000_000
CUTS = [T, T + DAY, T + DAY, T + DAY, T + DAY]
ERIKA = Forgotten.of([("erika-0099", "")])
ROWS = [
    ("u:anna", "tea", "purchase-complete", T),
    ("u:erika-0099", "tea", "purchase-complete", T + 1),
    ("u:erika-0099", "cup", "purchase-complete", T + 2),
    ("u:zoe", "cup", "purchase-complete", T + 3),
    ("v:web", "cup", "click", T + 4),
]


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A night's prepared data with attributes, rejects and what it carries over, an older one, and the user state."""
    work, home = Work(tmp_path / "work"), tmp_path / "work" / "stages" / "prepare"
    attributes: dict[str, AnyColumn] = {
        "attribute.name": Coded.of(["Anna", "erika-0099", "Zoe", None]),
        "attribute.tags": Tags.of([["a"], ["only hers", "a"], [], []]),
        "attribute.age": np.array([1, 2, 3, np.nan], np.float32),
        "note": Texts.of(["x", "erika-0099", "y", ""]),
    }
    prepared = make_prepared(tmp_path, ROWS, cuts=CUTS, days=True, columns_of_people=attributes)
    with artifact.rewrite(prepared.path) as draft:
        (draft.path / "rejected").mkdir()
        pq.write_table(
            pa.table({"reason": ["bad", "bad"], "user_id": ["erika-0099", "zoe"]}),
            draft.path / "rejected" / "events.parquet",
        )
        (draft.path / "carried").mkdir()
        (draft.path / "carried" / "state.json").write_text("{}")
        (draft.path / "profile.json").write_text(json.dumps({"users": {"values": {"erika-0099": 1, "zoe": 1}}}))
        draft.about["profile"] = {"user_id": {"min": "anna", "max": "erika-0099"}}
    home.mkdir(parents=True)
    (home / "older").mkdir()
    os.rename(prepared.path, home / "newer")
    work.set_latest("prepare", "newer")
    write_user_state(work.user_state(T + DAY), Prepared(work.latest("prepare")))
    return work


def erase(work: Work, gone: Forgotten = ERIKA) -> Tally:
    tally = Tally()
    erase_artifacts(work, gone, tally, lambda _: None)
    return tally


def test_a_tombstone_where_the_id_was_and_no_row_of_theirs(work: Work) -> None:
    row = Prepared(work.latest("prepare")).user_ids.row("u:erika-0099")
    assert row == 1
    tally = erase(work)
    prepared = Prepared(work.latest("prepare"))
    artifact.verify(prepared.path)
    assert [prepared.user_ids[r] for r in range(4)] == ["u:anna", "", "u:zoe", "v:web"]
    assert prepared.user_ids.alive.tolist() == [True, False, True, True]
    assert prepared.events.numbers(Column.USER).tolist() == [0, 2, 3]
    assert prepared.users.numbers("known").tolist() == [True, False, True, False]
    name, tags, age, note = (prepared.users[c] for c in ("attribute.name", "attribute.tags", "attribute.age", "note"))
    assert isinstance(name, Coded)
    assert isinstance(tags, Tags)
    assert [name[r] for r in range(4)] == ["Anna", None, "Zoe", None]
    assert list(name.values) == ["Anna", "Zoe"]
    assert [tags[r] for r in range(4)] == [["a"], [], [], []]
    assert list(tags.values) == ["a"]
    np.testing.assert_array_equal(age, np.array([1, np.nan, 3, np.nan], np.float32))
    assert list(note) == ["x", "", "y", ""]  # type: ignore[arg-type]
    # prepared data and user state: two events and one active day each; a rejected row
    assert tally.rows == 2 * (2 + 1) + 1


def test_what_kept_rows_as_they_came_forgets_too(work: Work) -> None:
    erase(work)
    latest = work.latest("prepare")
    assert pq.read_table(latest / "rejected" / "events.parquet").column("user_id").to_pylist() == ["zoe"]
    assert not (latest / "carried").exists()  # the next night reads everything again
    assert json.loads((latest / "profile.json").read_text()) == {"users": {"values": {"zoe": 1}}}
    assert artifact.read_manifest(latest).about["profile"] == {"user_id": {"min": "anna", "max": None}}
    assert not (work.root / "stages" / "prepare" / "older").exists()


def test_user_state_keeps_its_name_and_the_histories_of_others(work: Work) -> None:
    path = work.user_state(T + DAY)
    before = state_id(path)
    erase(work)
    assert state_id(path) == before
    artifact.verify(path)
    state = UserState.open(path)
    assert [len(state.histories.before(row)) for row in range(4)] == [1, 0, 1, 1]
    assert state.rows(["erika-0099", "zoe"]).tolist() == [NO_ROW, 2]


def test_user_state_forgets_what_they_said_of_themselves(work: Work) -> None:
    path, told = work.user_state(T + DAY), Prepared(work.latest("prepare")).told
    with artifact.rewrite(path) as draft:  # as where the towers read every attribute
        write_attributes(told, np.ones(len(told.tokens), bool), draft.path / ATTRIBUTES)
    assert [len(UserState.open(path).told.of(row)) for row in range(4)] == [3, 4, 2, 0]  # name, tags, age
    erase(work)
    state = UserState.open(path)
    assert [len(state.told.of(row)) for row in range(4)] == [3, 0, 2, 0]
    assert state.told.of(2).tolist() == told.of(2).tolist()


def test_user_state_of_other_data_has_another_name(work: Work, tmp_path: Path) -> None:
    other = make_prepared(tmp_path / "other", ROWS[:1], cuts=CUTS, days=True)
    changed = json.loads((other.path / artifact.MANIFEST).read_text()) | {"id": "another"}
    (other.path / artifact.MANIFEST).write_text(json.dumps(changed))
    write_user_state(tmp_path / "state", Prepared(other.path))
    assert state_id(tmp_path / "state") != state_id(work.user_state(T + DAY))


def test_who_is_not_there_changes_nothing(work: Work) -> None:
    before = (work.latest("prepare") / artifact.MANIFEST).stat().st_ino
    assert erase(work, Forgotten.of([("nobody-77", "")])).rows == 0
    assert (work.latest("prepare") / artifact.MANIFEST).stat().st_ino == before


def test_erasing_twice_is_erasing_once(work: Work) -> None:
    erase(work)
    before = artifact.read_manifest(work.latest("prepare"))
    assert erase(work).files == 0
    assert artifact.read_manifest(work.latest("prepare")) == before


def test_a_rewrite_leaves_the_files_of_hard_links_alone(tmp_path: Path) -> None:
    with artifact.publish(tmp_path / "a", kind="k", format_version=1, id="1") as draft:
        for name in ("same", "other"):
            (draft.path / name).write_text(name)
    (tmp_path / "release").mkdir()
    os.link(tmp_path / "a" / "other", tmp_path / "release" / "other")
    inode = (tmp_path / "a" / "same").stat().st_ino
    with artifact.rewrite(tmp_path / "a") as draft:
        (draft.path / "other").unlink()
        (draft.path / "other").write_text("changed")
    manifest = artifact.verify(tmp_path / "a")
    assert manifest.id == "1"
    assert (tmp_path / "a" / "other").read_text() == "changed"
    assert (tmp_path / "a" / "same").stat().st_ino == inode
    assert (tmp_path / "release" / "other").read_text() == "other"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "release"]


def test_a_failed_rewrite_leaves_the_artifact(tmp_path: Path) -> None:
    with artifact.publish(tmp_path / "a", kind="k", format_version=1, id="1") as draft:
        (draft.path / "x").write_text("x")
    with pytest.raises(FileNotFoundError), artifact.rewrite(tmp_path / "a") as draft:
        (draft.path / "y").unlink()
    artifact.verify(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("between", [True, False])
def test_a_kill_between_or_after_the_two_renames_is_repaired(work: Work, between: bool) -> None:
    """What a kill leaves: the old directory under another name, with nothing, or with the new one, in its place."""
    path = work.user_state(T + DAY)
    if between:
        os.rename(path, path.with_name(f".was-{path.name}"))
    else:
        atomic.fsync_tree(path)
        (path.parent / f".was-{path.name}").mkdir()
    repair(work)
    artifact.verify(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_search_finds_every_hiding_place(work: Work, tmp_path: Path) -> None:
    assert {p.name for p in still_held([work.root], ERIKA)} == {
        "columns.json",  # of the id maps and attributes
        "events.parquet",
        "manifest.json",
        "profile.json",
    }
    erase(work)
    assert still_held([work.root], ERIKA) == []
    places = tmp_path / "places"
    places.mkdir()
    (places / "log.txt").write_text("user erika-0099 called")
    (places / "erika-0099").write_text("")
    (places / "not-her.txt").write_text("user erika-00990 called")
    (places / "items").mkdir()
    (places / "items" / "erika-0099.txt").write_text("a vase")
    assert [p.name for p in still_held([places], ERIKA)] == ["erika-0099", "log.txt"]


def test_short_ids_are_searched_where_ids_are(work: Work, tmp_path: Path) -> None:
    zoe = Forgotten.of([("zoe", "")])
    (tmp_path / "note.txt").write_text("zoe")
    held = still_held([work.root, tmp_path / "note.txt"], zoe)
    assert "note.txt" not in {p.name for p in held}
    assert any(p.match("ids/users/columns.json") for p in held)
    erase(work, zoe)
    assert still_held([work.root], zoe) == []


def test_sqlite_forgets_keys_and_what_it_deleted(tmp_path: Path) -> None:
    path, tally = tmp_path / "online.db", Tally()
    with closing(sqlite3.connect(path)) as store:
        store.execute("CREATE TABLE t (entity_key BLOB, value TEXT)")
        for name in ("u:erika-0099", "u:erika-00990", "u:zoe"):
            key = b"\x02\x00\x00\x00" + struct.pack("<I", len(name)) + name.encode() + b"aisle"
            store.execute("INSERT INTO t VALUES (?, 'x')", (key,))
        store.commit()
    assert erase_sqlite(path, ERIKA, tally)
    assert not erase_sqlite(path, ERIKA, tally)
    assert tally.rows == 1
    assert path.read_bytes().count(b"u:erika-0099") == 1  # the start of another
    with closing(sqlite3.connect(path)) as store:
        assert store.execute("SELECT count(*) FROM t").fetchone() == (2,)
    (tmp_path / "no.db").write_bytes(b"SQLite format 3\0 and then nothing of it")
    with pytest.raises(InputError, match=r"no\.db: nobody can be taken out of it"):
        erase_sqlite(tmp_path / "no.db", ERIKA, tally)


def test_the_spool_forgets_and_keeps_the_order_of_others(tmp_path: Path) -> None:
    left = Spool(tmp_path, 1 << 20)
    for users in (["anna", "erika-0099"], ["erika-0099"], ["zoe"]):
        events = [{"event_type": "click", "event_time": T, "item_id": "tea", "user_id": u} for u in users]
        left.append(json.dumps(events).encode())
    tally = Tally()
    assert not erase_spool(tmp_path, ERIKA, tally)  # its owner lives
    left.close()
    assert erase_spool(tmp_path, ERIKA, tally)
    assert (tally.rows, tally.files) == (2, 1)
    heir = Spool(tmp_path, 1 << 20)
    heir.adopt()
    found = [json.loads(payload) for segment in heir.segments for _, payload in segment.frames()]
    heir.close()
    assert [[e["user_id"] for e in events] for events in found] == [["anna"], ["zoe"]]
    assert all(b"erika" not in p.read_bytes() for p in tmp_path.iterdir())


def test_without_redis_those_named_are_forgotten(work: Work, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "events").mkdir(parents=True)
    (data / "events" / "a.csv").write_text("user_id,item_id\nerika-0099,tea\nzoe,cup\n")
    done = run(data, work, None, load_serving(), lambda _: None, [("erika-0099", "")])
    assert (done.requests, done.left, done.short) == (1, [], 0)
    assert (data / "events" / "a.csv").read_text() == "user_id,item_id\nzoe,cup\n"
    nothing = run(data, work, None, load_serving(), lambda _: None)
    assert (nothing.requests, nothing.files_rewritten) == (0, 0)


def test_a_broken_file_of_an_artifact_is_named(work: Work) -> None:
    (work.latest("prepare") / "profile.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"profile\.json: not readable as JSON"):
        erase(work)
