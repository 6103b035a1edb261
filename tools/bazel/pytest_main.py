"""Entry point of every Bazel test: pytest on the files given as arguments."""

import os
import signal
import sys
import tempfile

import pytest


def main() -> int:
    """Returns pytest's exit code."""
    # Bazel ends a test that ran out of time with SIGTERM: leave through the fixtures, so that servers they started stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = ["-q", "-p", "no:cacheprovider"]
    if os.environ.get("XML_OUTPUT_FILE"):
        options.append("--junitxml=" + os.environ["XML_OUTPUT_FILE"])
    if os.environ.get("TESTBRIDGE_TEST_ONLY"):
        options += ["-k", os.environ["TESTBRIDGE_TEST_ONLY"]]
    if os.environ.get("TEST_TIMEOUT"):  # say where it hangs, before Bazel's knife falls
        options.append(f"--timeout={int(os.environ['TEST_TIMEOUT']) * 0.95:.0f}")
    # Bazel's own temporary folder has a path too long for a Unix socket.
    with tempfile.TemporaryDirectory(prefix="aisle-") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        return int(pytest.main([*options, f"--basetemp={folder}/t", *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
