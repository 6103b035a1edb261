"""Writes `.gen/aisle/v1/*_pb2*.py` from `proto/aisle/v1/*.proto` when they changed: what Bazel's rule does, for all the rest.

The generated package is `aisle.v1`. It lies outside the source tree so that no Python package called `proto` exists
(google's proto-plus has one), and it is never committed, so it cannot differ from the protos.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def ensure(root: Path = ROOT) -> Path:
    """Generates what is stale and returns the folder to put on the import path."""
    out = root / ".gen"
    if _current(root):
        return out
    out.mkdir(exist_ok=True)
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _current(root):
            generate(root / "proto", out, _protos(root))
            (out / "stamp").write_text(_fingerprint(root))
    return out


def generate(include: Path, out: Path, protos: Iterable[Path]) -> None:
    """Runs the compiler. The type stubs are for mypy: a serving host has neither their plugin nor a need."""
    files = [str(p) for p in protos]
    if not files:
        return
    options = [f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if importlib.util.find_spec("mypy_protobuf"):
        for name in ("mypy", "mypy_grpc"):
            plugin = Path(sys.executable).parent / f"protoc-gen-{name}"
            options += [f"--plugin={plugin}", f"--{name}_out=quiet:{out}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *files], check=True)


def _current(root: Path) -> bool:
    stamp = root / ".gen" / "stamp"
    return stamp.exists() and stamp.read_text() == _fingerprint(root)


def _fingerprint(root: Path) -> str:
    """Hash of all that decides the generated code; the launcher computes the same in sh."""
    digest = hashlib.sha256((root / "uv.lock").read_bytes())
    for proto in _protos(root):
        digest.update(proto.read_bytes())
    return digest.hexdigest()


def _protos(root: Path) -> list[Path]:
    return sorted((root / "proto" / "aisle" / "v1").glob("*.proto"))


def _main() -> None:
    parser = argparse.ArgumentParser(description="Without arguments: brings .gen up to date. With them: Bazel's rule.")
    parser.add_argument("--include", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("protos", type=Path, nargs="*")
    args = parser.parse_args()
    if args.protos:
        generate(args.include, args.out, args.protos)
    else:
        ensure()


if __name__ == "__main__":
    _main()
