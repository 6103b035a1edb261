"""What the machine or the file system refused, as one line: a full disk, a folder of somebody else, a file where a folder was expected."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from core import atomic

_IN_THE_WAY: Final = "a file is where a folder was expected: name another place, or move the file away"
_ROOM: Final = "make room, and run it again"
_HELP: Final = {
    errno.EACCES: "name another place, or let this user in (`ls -ld` says who may)",
    errno.EPERM: "name another place, or let this user in (`ls -ld` says who may)",
    errno.EROFS: "name a place that can be written to",
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.EISDIR: "a folder is where a file was expected: name another place, or move the folder away",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "raise the machine's limit of open files (`sysctl fs.file-max`)",
    errno.EIO: "look at the disk (`dmesg`)",
}


def refusal(error: OSError) -> str | None:
    """The line of an error that somebody at the machine can mend; None: only a bug brings it about.

    >>> refusal(NotADirectoryError(errno.ENOTDIR, "Not a directory", "shop.csv/events"))
    'shop.csv/events: Not a directory; a file is where a folder was expected: name another place, or move the file away'
    >>> refusal(FileNotFoundError(errno.ENOENT, "No such file or directory", "x")) is None
    True
    """
    help_ = _HELP.get(error.errno or 0)
    if help_ is None:
        return None
    named = error.filename2 or error.filename
    if not isinstance(named, str | bytes | os.PathLike):  # a write to an open file, or a library with words of its own
        return f"{error.strerror}; {help_}"
    return f"{atomic.meant(Path(os.fsdecode(named)))}: {error.strerror}; {help_}"
