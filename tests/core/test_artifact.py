"""Artifacts appear whole or not at all, and damage of any kind is refused by name."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core import artifact, atomic
from core.errors import ArtifactError, NotFoundError


def make(path: Path, content: str = "hello") -> Path:
    with artifact.publish(path, kind="thing", format_version=3, id="x1") as draft:
        (draft.path / "deep").mkdir()
        (draft.path / "deep" / "a.txt").write_text(content)
        (draft.path / "b.bin").write_bytes(b"\0" * 1000)
        draft.about["answer"] = 42
        draft.parents["mother"] = "m1"
    return path


def test_a_published_artifact_says_what_it_is(tmp_path: Path) -> None:
    manifest = artifact.open_artifact(make(tmp_path / "t"), kind="thing", format_version=3)
    assert manifest.about == {"answer": 42}
    assert manifest.parents == {"mother": "m1"}
    assert {n: f.size for n, f in manifest.files.items()} == {"b.bin": 1000, "deep/a.txt": 5}


def test_two_makings_differ_only_in_the_build_section(tmp_path: Path) -> None:
    one, two = (artifact.read_manifest(make(tmp_path / n)) for n in "ab")
    assert artifact.facts(one) == artifact.facts(two)


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> None:
        with artifact.publish(tmp_path / "t", kind="thing", format_version=1, id="x") as draft:
            (draft.path / "a").write_text("half")
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_kill_9_while_writing_leaves_nothing_visible_and_a_sweep_clears_the_rest(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom core import artifact\n"
        "with artifact.publish(pathlib.Path(sys.argv[1]), kind='thing', format_version=1, id='x') as draft:\n"
        "    (draft.path / 'a').write_text('half'); print('writing', flush=True); sys.stdin.read()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "t")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait(10)
    assert not (tmp_path / "t").exists()
    assert len(atomic.sweep(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_is_not_found_and_a_plain_folder_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such artifact"):
        artifact.read_manifest(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="not an artifact of Aisle"):
        artifact.read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("kind", "version", "message"),
    [
        ("other", 3, "holds a 'thing' artifact, expected 'other'"),
        ("thing", 2, "format version 3, this Aisle reads 2; a newer Aisle wrote it"),
        ("thing", 4, "format version 3, this Aisle reads 4; rebuild it"),
    ],
)
def test_kind_and_version_must_fit(tmp_path: Path, kind: str, version: int, message: str) -> None:
    make(tmp_path / "t")
    with pytest.raises(ArtifactError, match=message):
        artifact.open_artifact(tmp_path / "t", kind=kind, format_version=version)


def test_truncated_and_missing_files_are_refused_at_open(tmp_path: Path) -> None:
    make(tmp_path / "t")
    with open(tmp_path / "t" / "b.bin", "r+b") as f:
        f.truncate(999)
    with pytest.raises(ArtifactError, match=r"b\.bin: 999 bytes, the manifest says 1000"):
        artifact.open_artifact(tmp_path / "t", kind="thing", format_version=3)
    (tmp_path / "t" / "b.bin").unlink()
    with pytest.raises(ArtifactError, match=r"b\.bin: missing"):
        artifact.open_artifact(tmp_path / "t", kind="thing", format_version=3)


def test_one_flipped_byte_is_found_by_verify_and_breaks_the_stamp(tmp_path: Path) -> None:
    make(tmp_path / "t")
    with pytest.raises(ArtifactError, match="not verified since its files last changed"):
        artifact.open_artifact(tmp_path / "t", kind="thing", format_version=3, stamped=True)
    artifact.verify(tmp_path / "t")
    artifact.open_artifact(tmp_path / "t", kind="thing", format_version=3, stamped=True)

    file = tmp_path / "t" / "deep" / "a.txt"
    file.write_text("hellp")
    with pytest.raises(ArtifactError, match="not verified"):
        artifact.open_artifact(tmp_path / "t", kind="thing", format_version=3, stamped=True)
    with pytest.raises(ArtifactError, match=r"deep/a\.txt: sha256 .* truncated or altered"):
        artifact.verify(tmp_path / "t")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "t")
    (tmp_path / "t" / "extra").write_text("?")
    with pytest.raises(ArtifactError, match="extra: not in the manifest"):
        artifact.verify(tmp_path / "t")


def test_an_altered_manifest_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "t")
    path = tmp_path / "t" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"surprise": 1}))
    with pytest.raises(ArtifactError, match="altered or not a manifest"):
        artifact.read_manifest(tmp_path / "t")


def test_a_stamp_being_left_by_another_process_is_no_foreign_file(tmp_path: Path) -> None:
    path = make(tmp_path / "t")
    (path / f".tmp-{artifact.STAMP}-0123abcd").write_text("{")
    artifact.verify(path)


def test_foreign_parents_show_both_sides() -> None:
    with pytest.raises(ArtifactError, match="made for index bbbb, but the index here is aaaa"):
        artifact.same_parent("index", "aaaa", "bbbb", "release")
    artifact.same_parent("index", "aaaa", "aaaa", "release")


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_text("old")

    def fails() -> None:
        with atomic.new_file(target) as beside:
            beside.write_text("half")
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        fails()
    assert target.read_text() == "old"
    with atomic.new_file(target) as beside:
        beside.write_text("new")
    assert target.read_text() == "new"
    atomic.write_bytes(target, b"newer")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    atomic.symlink(tmp_path / "link", "f")
    atomic.symlink(tmp_path / "link", "g")
    assert os.readlink(tmp_path / "link") == "g"
