"""Every error that Aisle raises on purpose, with the exit code and the gRPC status that it means.

AisleError
├── InputError          exit 2  INVALID_ARGUMENT     a file, row, argument or request that cannot be used
│   └── ConfigError     exit 2  INVALID_ARGUMENT     a configuration value or key
├── NotFoundError       exit 2  NOT_FOUND            a release, stage or file that is not there
├── ArtifactError       exit 2  FAILED_PRECONDITION  an artifact that is truncated, altered or does not fit its neighbours
├── BusyError           exit 2  UNAVAILABLE          another process holds the work directory
├── EnvironmentGapError exit 2  FAILED_PRECONDITION  a program or library the machine lacks
└── GateRefused         exit 3  FAILED_PRECONDITION  the job did its work, a gate refused to publish the result

A message is one line: what, where, what was expected, how to fix it. Anything that is not an AisleError is a bug and keeps its stack trace
(in the log file; the command line still ends in one line).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AisleError(Exception):
    """Base of the errors that are raised on purpose; its text is one line for a person."""

    exit_code = 2
    grpc_status = "UNKNOWN"


class InputError(AisleError):
    """A file, row, argument or request that cannot be used as it is."""

    grpc_status = "INVALID_ARGUMENT"


class ConfigError(InputError):
    """A configuration file or value that does not fit the schema."""


class NotFoundError(AisleError):
    """Something named by the caller does not exist."""

    grpc_status = "NOT_FOUND"


class ArtifactError(AisleError):
    """An artifact is truncated, altered, of another format version, or belongs to another parent."""

    grpc_status = "FAILED_PRECONDITION"


class BusyError(AisleError):
    """Another process is writing to the same work directory."""

    grpc_status = "UNAVAILABLE"


class EnvironmentGapError(AisleError):
    """The machine lacks a program or library; the message names the command that brings it."""

    grpc_status = "FAILED_PRECONDITION"


class GateRefused(AisleError):
    """A gate refused to publish, or to do what `undone` names. `reasons` holds one line for each gate that failed."""

    exit_code = 3
    grpc_status = "FAILED_PRECONDITION"

    def __init__(self, reasons: list[str], undone: str = "not published") -> None:
        super().__init__(f"{undone}: " + "; ".join(reasons))
        self.reasons = reasons


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name: the closest known one, or all of them.

    >>> nearest("purchase", ["purchase-complete", "click"])
    "did you mean 'purchase-complete'?"
    >>> nearest("zzz", ["b", "a"])
    'known: a, b'
    """
    known = sorted(str(k) for k in known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)
