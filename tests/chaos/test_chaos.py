"""A short form of the chaos: half a minute of it; `make chaos` has half an hour."""

import os
import subprocess
import sys

from tests.parts.programs import HOUSE


def test_whatever_is_killed_every_end_is_true() -> None:
    own = {"DEPLOYER_DATA_DIR", "DATABASE_URL", "TEST_DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    words = [sys.executable, "-m", "tests.chaos", "--minutes", "0.5", "--deployments", "6", "--servers", "15"]
    done = subprocess.run(words, cwd=HOUSE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
