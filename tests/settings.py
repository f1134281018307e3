"""The product's settings on a folder of the test run; on PostgreSQL where TEST_DATABASE_URL names one."""

import atexit
import os
import shutil
import tempfile

_folder = tempfile.mkdtemp(prefix="deployer-tests-")
_owner = os.getpid()


def _remove_folder() -> None:
    if os.getpid() == _owner:  # a forked child must not take it away from us
        shutil.rmtree(_folder, ignore_errors=True)


atexit.register(_remove_folder)

os.environ["DEPLOYER_DATA_DIR"] = _folder
os.environ["DEPLOYER_ALLOW_LOCAL_GIT"] = "yes"
os.environ["DATABASE_URL"] = os.environ.get("TEST_DATABASE_URL") or os.environ.get("DATABASE_URL") or ""
os.environ["DEPLOYER_API_RATE"] = "0"  # tests ask more often than any program; those of the limit set it
os.environ.pop("REDIS_URL", None)  # the fixture `queue_server` answers on the embedded server's socket
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # the browser driver keeps an event loop in the test's thread

from deployer.settings import *  # noqa: E402, F403
from deployer.settings import CACHES, DATA_DIR, DATABASES, STATIC_ROOT, STORAGES  # noqa: E402
from tests.parts.programs import PATIENCE  # noqa: E402

# A file, never memory: threads and worker processes of a test open it too.
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
    DATABASES["default"]["OPTIONS"]["timeout"] = PATIENCE  # thirty writers at once have their turns

STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
STATIC_ROOT.mkdir(exist_ok=True)
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ALLOWED_HOSTS = ["*"]

# What one test has seen is not what the next one sees.
CACHES["process"] = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
