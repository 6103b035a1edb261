"""Copies of releases: only what is missing travels, a kill loses nothing, and what is not whole is refused."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from core.artifact import read_manifest, rewrite, verify
from core.errors import ArtifactError, BusyError, EnvironmentGapError, InputError, NotFoundError
from core.work import Work
from pipeline.registry import history
from pipeline.registry.find import every, named
from pipeline.registry.prune_copies import prune_copies
from pipeline.registry.pull import LATEST, Pulled, pull
from pipeline.registry.push import Pushed, push
from pipeline.registry.remote import Copy, Remote, bytes_sha
from serving.batch import Batch, BatchQuery
from tests.pipeline.registry.two_nights import names, variant
from tests.serving.shop import PURCHASES


def silent(_: str) -> None:
    pass


def send(work: Work, name: str, url: str, *, again: bool = False) -> Pushed:
    return push(named(Path(name), work.root), Remote(url), silent, again=again)


def bring(name: str, url: str, work: Work) -> Pulled:
    return pull(name, Remote(url), work, silent)


@pytest.fixture(params=["folder", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    there = {
        "folder": str(tmp_path / "remote"),
        "file": f"file://{tmp_path}/remote",
        "memory": f"memory://{uuid.uuid4().hex}",
    }
    return there[request.param]


@pytest.fixture
def host(tmp_path: Path) -> Work:
    """A host that has nothing."""
    return Work(tmp_path / "host")


def pages(work: Work) -> dict[str, list[str]]:
    batch = Batch(work.current, work.user_state(named(None, work.root).window_end))
    users = [key.removeprefix("u:") for key in PURCHASES if key.startswith("u:")]
    return {u: batch.rendered(BatchQuery(u, u, None), 10, exclude_seen=False).item_ids for u in users}


def test_a_copy_of_a_copy_answers_the_same(nights: Work, host: Work, url: str) -> None:
    second = names(nights)[1]
    sent = send(nights, second, url)
    assert sent.sent_files == sent.files
    done = bring(LATEST, url, host)
    assert (done.release, done.current, done.copied_bytes <= done.bytes) == (second, True, True)
    assert pages(host) == pages(nights)
    assert verify(host.current.resolve()).model_dump() == read_manifest(nights.releases / second).model_dump()
    assert [c.action for c in history.read(host)] == [history.PULL]
    assert [p.name for p in host.releases.iterdir() if p.name.startswith(".")] == []


def test_only_what_is_missing_travels(nights: Work, host: Work, url: str) -> None:
    first, second = names(nights)
    send(nights, first, url)
    assert send(nights, first, url).sent_files == 0
    other = send(nights, second, url)
    # the nights differ in their popularity, their manifests and their user states alone
    assert 0 < other.sent_files < other.files / 2
    bring(first, url, host)
    done = bring(second, url, host)
    assert 0 < done.copied_files < done.files / 2
    assert not done.current  # there was a current one
    assert bring(second, url, host).copied_files == 0
    assert {k.name for k in every(host)} == {first, second}


def test_latest_is_the_newest_data(nights: Work, host: Work, url: str) -> None:
    first, second = names(nights)
    send(nights, second, url)
    send(nights, first, url)
    assert [c.name for c in Remote(url).copies()] == [second, first]
    assert bring(LATEST, url, host).release == second


def test_there_is_nothing(host: Work, nights: Work, url: str) -> None:
    with pytest.raises(NotFoundError, match="holds no release"):
        bring(LATEST, url, host)
    send(nights, names(nights)[0], url)
    with pytest.raises(NotFoundError, match="no release x;"):
        bring("x", url, host)
    with pytest.raises(InputError, match="release name"):
        bring("../x", url, host)


def test_a_scheme_that_nobody_knows() -> None:
    with pytest.raises(InputError, match="no file system 'fil'; did you mean 'file'"):
        Remote("fil:///x")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    found = bytearray(path.read_bytes())
    found[-1] ^= 1
    path.write_bytes(found)


@pytest.mark.parametrize(
    ("damage", "message", "again"),
    [
        (cut, "bytes, the manifest says .* truncated or altered", False),
        (flip, "its content is not what its name says", True),
        (Path.unlink, "missing: push the release again", False),
    ],
)
def test_what_is_damaged_there_is_refused_until_it_is_pushed_again(
    nights: Work, host: Work, tmp_path: Path, damage: Callable[[Path], None], message: str, again: bool
) -> None:
    second, url = names(nights)[1], str(tmp_path / "remote")
    send(nights, second, url)
    sha = read_manifest(nights.releases / second).files["sources/item_knn/scores.npy"].sha256
    damage(tmp_path / "remote" / "objects" / sha[:2] / sha)
    with pytest.raises(ArtifactError, match=message):
        bring(LATEST, url, host)
    assert every(host) == []
    assert not host.current.exists()
    assert not (host.root / "user_state").exists()
    assert send(nights, second, url, again=again).sent_files >= 1
    assert bring(LATEST, url, host).current


def test_a_description_cut_short_is_refused(nights: Work, host: Work, tmp_path: Path) -> None:
    send(nights, names(nights)[1], str(tmp_path / "remote"))
    cut_short = next((tmp_path / "remote" / "releases").iterdir())
    cut_short.write_text(cut_short.read_text()[:40])
    with pytest.raises(ArtifactError, match="truncated or altered: push the release again"):
        bring(LATEST, str(tmp_path / "remote"), host)


def test_a_manifest_that_leads_elsewhere_is_refused(nights: Work, host: Work, tmp_path: Path) -> None:
    remote = Remote(str(tmp_path / "remote"))
    send(nights, names(nights)[1], remote.url.removeprefix("file://"))
    copy = remote.newest()
    manifest = json.loads(remote.manifest(copy.release)[1])
    manifest["files"]["../../evil"] = manifest["files"]["settings.json"]
    data = json.dumps(manifest).encode()
    remote.put_bytes(data, bytes_sha(data))
    remote.show(Copy(**{**copy.__dict__, "release": bytes_sha(data)}))
    with pytest.raises(ArtifactError, match=r"names the file '\.\./\.\./evil'"):
        bring(LATEST, str(tmp_path / "remote"), host)


def test_what_is_not_whole_here_is_not_sent(nights: Work, tmp_path: Path) -> None:
    second = names(nights)[1]
    flip(nights.releases / second / "settings.json")
    with pytest.raises(ArtifactError, match=r"settings\.json: sha256"):
        send(nights, second, str(tmp_path / "remote"))
    assert not (tmp_path / "remote").exists()


def test_another_release_of_the_same_name_is_left_alone(nights: Work, host: Work, url: str) -> None:
    send(nights, variant(nights, names(nights)[1], "v").name, url)
    bring("v", url, host)
    shutil.rmtree(nights.releases / "v")
    variant(nights, names(nights)[0], "v")
    send(nights, "v", url)
    with pytest.raises(ArtifactError, match="is another release of the same name"):
        bring("v", url, host)


def test_a_file_goes_on_where_a_pull_was_killed(nights: Work, host: Work, tmp_path: Path) -> None:
    second, url = names(nights)[1], str(tmp_path / "remote")
    send(nights, second, url)
    entry = max(read_manifest(nights.releases / second).files.items(), key=lambda pair: pair[1].size)
    part = host.releases / f".pull-{second}" / "release" / f"{entry[0]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((nights.releases / second / entry[0]).read_bytes()[:100])
    done = bring(LATEST, url, host)
    # every content is copied once, but for the hundred bytes that were here
    contents = {
        f.sha256: f.size
        for path in (host.current, host.user_state(named(None, host.root).window_end))
        for f in read_manifest(path).files.values()
    }
    assert done.copied_bytes == sum(contents.values()) - 100


def test_two_pulls_at_once(nights: Work, host: Work, tmp_path: Path) -> None:
    url, second = str(tmp_path / "remote"), names(nights)[1]
    send(nights, second, url)
    staging = host.releases / f".pull-{second}"
    staging.mkdir(parents=True)
    with open(staging / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another pull"):
            bring(LATEST, url, host)


_KILLED = """
import os, signal, sys
from pipeline.registry.remote import Remote

method, count = sys.argv[1], int(sys.argv[2])
real, calls = getattr(Remote, method), 0

def dying(*arguments):
    global calls
    calls += 1
    done = real(*arguments)
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

setattr(Remote, method, dying)
sys.argv = ["aisle", "releases", *sys.argv[3:]]
from cli.app import main
main()
"""


def killed(method: str, count: int, *arguments: object) -> None:
    """Run `releases` until a method of Remote has done its work for the `count`th time, and SIGKILL it there."""
    command = [sys.executable, "-c", _KILLED, method, str(count), *map(str, arguments)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_kill_9_in_a_push_and_in_a_pull(nights: Work, host: Work, tmp_path: Path, share: float) -> None:
    """Killed when a share of the files is there, nothing is visible; the second try copies the rest only."""
    remote, name = tmp_path / "remote", names(nights)[1]
    files = len(read_manifest(nights.releases / name).files)
    count = round(share * files)
    killed("put", count, "push", name, "--work", nights.root, "--to", remote)
    assert Remote(str(remote)).copies() == []
    sent = send(nights, name, str(remote))
    assert 0 < sent.sent_files <= sent.files - count - 1  # a manifest is there, too
    # the user state first: with the same share of its files the release is not even begun, and with the other nearly done
    killed("_append", count, "pull", name, "--from", remote, "--work", host.root)
    assert every(host) == []
    assert not host.current.exists()
    staged = [f for f in (host.releases / f".pull-{name}").rglob("*") if f.suffix in (".npy", ".json", ".part")]
    assert sum(f.suffix == ".part" for f in staged) == 1  # its bytes are there, its name is not
    here = sum(f.stat().st_size for f in staged if f.name != "manifest.json")
    done = bring(name, str(remote), host)
    assert 0 < done.copied_bytes <= done.bytes - here
    assert verify(host.current.resolve()).id == name
    assert pages(host) == pages(nights)


def test_a_state_in_which_somebody_was_forgotten_replaces_the_other(nights: Work, host: Work, tmp_path: Path) -> None:
    second, url = names(nights)[1], str(tmp_path / "remote")
    send(nights, second, url)
    bring(second, url, host)
    end = named(Path(second), nights.root).window_end
    with rewrite(nights.user_state(end)) as draft:
        file = draft.path / "user_activity.json"
        text = file.read_text()
        file.unlink()  # a hard link to the one before
        file.write_text(text + "\n")
    send(nights, second, url)
    assert bring(second, url, host).copied_files == 1
    assert read_manifest(host.user_state(end)).files == read_manifest(nights.user_state(end)).files


def test_pruned_copies_leave_what_the_kept_ones_name(nights: Work, host: Work, url: str) -> None:
    first, second = names(nights)
    remote = Remote(url)
    send(nights, first, url)
    send(nights, second, url)
    before = remote.objects()
    assert prune_copies(remote, 1, 24, silent)["files"] == 0  # too young: a push could be about to name them
    assert [c.name for c in remote.copies()] == [second]
    assert prune_copies(remote, 1, 0, silent, dry_run=True)["files"] > 0
    assert remote.objects() == before
    done = prune_copies(remote, 1, 0, silent)
    assert 0 < done["files"] < len(before)
    assert bring(LATEST, url, host).release == second
    assert pages(host) == pages(nights)


def test_a_write_that_fails_is_one_line(nights: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that says no: the error names the URL, not a stack."""
    url = f"memory://{uuid.uuid4().hex}"
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", _denied)
    with pytest.raises(EnvironmentGapError, match=rf"{url}: .*denied"):
        send(nights, names(nights)[1], url)


def _denied(*_: object, **__: object) -> None:
    raise PermissionError("access denied")
