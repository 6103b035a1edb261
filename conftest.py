"""For plain `pytest` from a checkout: what ./aisle and Bazel's rules do otherwise (Bazel's tests never see this file)."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from tools.genproto import ensure  # noqa: E402  # needs the path above

sys.path.insert(1, str(ensure(ROOT)))
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Processes that a test starts see the same modules.
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
if "AISLE_DATA" not in os.environ and (data := ROOT.parent / "shared" / "data").is_dir():
    os.environ["AISLE_DATA"] = str(data)
