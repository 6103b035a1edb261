"""The Spark session: `local[*]` by default, any cluster by configuration alone.

`SPARK_MASTER` names another master; every key of `$SPARK_CONF_DIR/spark-defaults.conf` wins over the defaults here.
On a cluster the data and work directories must be on a file system that the executors share.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from core.errors import EnvironmentGapError
from core.programs import java_home

# Progress is ours to print, and a failing job reaches us as an exception. Without any appender Spark would load its own profile.
_LOGGING: Final = """\
status = off
appender.none.type = Null
appender.none.name = none
rootLogger.level = off
rootLogger.appenderRef.none.ref = none
"""

# 10 million events sort and join within this heap, spilling to disk: with Python beside it the tree stays below 8 GB.
_HEAP: Final = "3g"
_ENDING_SECONDS: Final = 1.0


def defaults(spill: Path, *, small: bool) -> dict[str, str]:
    """Our settings.

    Args:
        spill: Folder for shuffle files and everything that does not fit in memory.
        small: Whether the job is over before Java's optimising compiler has paid for itself.
    """
    return {
        "spark.app.name": "aisle prepare",
        "spark.master": os.environ.get("SPARK_MASTER", "local[*]"),
        "spark.driver.memory": _HEAP,
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=file:{_logging(spill)} -XX:+UseParallelGC"
        + (" -XX:TieredStopAtLevel=1" if small else ""),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(spill),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        # A value that does not fit its type becomes null and then a reject with a reason, not the end of the job.
        "spark.sql.ansi.enabled": "false",
        # Spark has no nanoseconds: they arrive as integers, and reading.py scales them.
        "spark.sql.legacy.parquet.nanosAsLong": "true",
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.shuffle.partitions": "16",
        "spark.sql.autoBroadcastJoinThreshold": "64m",
        "spark.sql.parquet.compression.codec": "zstd",
        # Batches for pyarrow, which turns the sorted events into columns.
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }


@contextlib.contextmanager
def session(spill: Path, *, small: bool = True) -> Iterator[SparkSession]:
    """The session of this process, or one of our own whose Java process ends with the block.

    Raises:
        EnvironmentGapError: The machine has no Java 17, or its process ended before the block did.
    """
    if (active := SparkSession.getActiveSession()) is not None:
        yield active
        return
    os.environ["JAVA_HOME"] = str(java_home())
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    chosen = defaults(spill, small=small)
    local = chosen["spark.master"].startswith("local")
    theirs = _user_settings()
    builder = SparkSession.builder
    for key, value in chosen.items():
        if key not in theirs and (local or key not in ("spark.driver.host", "spark.driver.bindAddress")):
            builder = builder.config(key, value)
    with _quiet_start(spill.with_name("java.log")):
        spark = builder.getOrCreate()
    try:
        yield spark
    except (PySparkException, Py4JError, ConnectionError) as e:
        if _ended():
            raise EnvironmentGapError(
                f"Spark's Java process ended before its work did, most likely for want of memory: its heap is {_HEAP}, and another "
                "spark.driver.memory in $SPARK_CONF_DIR/spark-defaults.conf holds instead"
            ) from e
        raise
    finally:
        _end(spark)


def _logging(spill: Path) -> Path:
    path = spill.with_name("log4j2.properties")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_LOGGING)
    return path


@contextlib.contextmanager
def _quiet_start(log: Path) -> Iterator[None]:
    """Java inherits our standard error when it starts and warns there about Spark's own launch options: hand it a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    ours = os.dup(2)
    with open(log, "ab") as f:
        os.dup2(f.fileno(), 2)
    try:
        yield
    except Exception as e:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise EnvironmentGapError(
            f"Spark did not start with JAVA_HOME={os.environ['JAVA_HOME']}: {' '.join(last) or e}"
        ) from e
    finally:
        os.dup2(ours, 2)
        os.close(ours)


def _user_settings() -> set[str]:
    folder = os.environ.get("SPARK_CONF_DIR")
    path = Path(folder) / "spark-defaults.conf" if folder else None
    if path is None or not path.exists():
        return set()
    lines = (line.strip() for line in path.read_text().splitlines())
    return {line.split("=")[0].split()[0] for line in lines if line and not line.startswith("#")}


def _ended() -> bool:
    """Whether the Java process is no more; one that is ending has a moment for it."""
    process = getattr(SparkContext._gateway, "proc", None)
    if process is None:  # Java started us
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING_SECONDS)
    return process.poll() is not None


def _end(spark: SparkSession) -> None:
    """Stop Spark and its Java process: what follows (numpy here, training in a night) needs the memory."""
    gateway = SparkContext._gateway
    try:
        spark.stop()
        if gateway is not None:
            gateway.shutdown()
    except (Py4JError, ConnectionError):  # it is gone; pyspark would go on with what it remembers of it
        SparkContext._active_spark_context = None
        SparkSession._instantiatedSession = SparkSession._activeSession = None
    if gateway is None:
        return
    process = getattr(gateway, "proc", None)
    SparkContext._gateway = SparkContext._jvm = None
    if process is not None:
        process.stdin.close()  # the Java side ends when its standard input does
        process.wait(timeout=30)
