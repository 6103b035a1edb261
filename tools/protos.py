"""The protos as their compiler sees them, with the comments."""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).parents[1]


def described(root: Path = ROOT) -> list[FileDescriptorProto]:
    """Every file of `proto/aisle/v1`, by name.

    Raises:
        SystemExit: A proto does not compile; the compiler has said why.
    """
    files = [str(p) for p in sorted((root / "proto" / "aisle" / "v1").glob("*.proto"))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "all.binpb"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root / 'proto'}"]
        done = subprocess.run([*command, f"--descriptor_set_out={out}", "--include_source_info", *files], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)
