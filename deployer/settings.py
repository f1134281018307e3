"""Django settings, read from environment variables and an optional `.env` file.

With nothing set, deployer runs on embedded defaults under one data folder: SQLite and a private
queue server. Every wrong value stops the start with a sentence that names the variable.
"""

import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import django_stubs_ext
import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from deployer.host.keyfiles import new_encryption_key, read_or_make, short_socket_path

django_stubs_ext.monkeypatch()  # type arguments of Django's classes, at run time as for the type checker

BASE_DIR = Path(__file__).resolve().parent.parent
#: The languages of pages, each by its own name. A catalogue for each but the first lies in locale/.
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]

env = environ.Env()
if (BASE_DIR / ".env").is_file():
    env.read_env(BASE_DIR / ".env")


def _yes_or_no(name: str, default: str) -> bool:
    value = os.environ.get(name, default).strip().lower()
    if value in {"yes", "true", "1", "on"}:
        return True
    if value in {"no", "false", "0", "off", ""}:
        return False
    raise ImproperlyConfigured(f"{name} must be yes or no, not {value!r}.")


def _whole_number(name: str, default: int, low: int, high: int) -> int:
    value = os.environ.get(name, "").strip() or str(default)
    if not value.isdecimal() or not low <= int(value) <= high:
        raise ImproperlyConfigured(f"{name} must be a whole number from {low} to {high}, not {value!r}.")
    return int(value)


def language(value: str) -> str:
    """The code of one of `LANGUAGES`; raises `ImproperlyConfigured`."""
    if value not in dict(LANGUAGES):
        raise ImproperlyConfigured(f"DEPLOYER_LANGUAGE must be {' or '.join(dict(LANGUAGES))}, not {value!r}.")
    return value


def bind_address(value: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; raises `ImproperlyConfigured`."""
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise ImproperlyConfigured(f"DEPLOYER_BIND must be HOST:PORT, like 127.0.0.1:8000, not {value!r}.")
    return host, int(port)


def _database(url: str) -> dict[str, Any]:
    if not url:
        url = f"sqlite:///{quote(str(DATA_DIR / 'db.sqlite3'))}"
    try:
        config: dict[str, Any] = dict(environ.Env.db_url_config(url))
    except (ValueError, KeyError, ImproperlyConfigured) as error:
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read: {error}.") from error
    engine = str(config.get("ENGINE", ""))
    if engine.endswith("sqlite3"):
        # Eight writers: 430 of 480 were refused with deferred transactions, none with IMMEDIATE.
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    elif engine.endswith("postgresql"):
        config["CONN_HEALTH_CHECKS"] = True
    else:
        raise ImproperlyConfigured(
            "DATABASE_URL must begin with sqlite:// or postgres://; other databases are not supported."
        )
    config["CONN_MAX_AGE"] = 60  # opening SQLite's file takes a poll as long as all the rest of it
    return config


def storage(url: str) -> dict[str, Any]:
    """Where DEPLOYER_STORAGE keeps the archives of releases: ``s3://BUCKET/FOLDER?endpoint_url=...&region_name=...``.

    Empty: a folder below the data folder. The login is taken from the environment as the AWS tools take it.
    Raises `ImproperlyConfigured`.
    """
    if not url:
        return {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    from botocore.config import Config  # slow to load, and needed only here

    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = ("endpoint_url", "region_name", "addressing_style", "verify")
    if parts.scheme != "s3" or not parts.netloc or not set(options) <= set(known):
        raise ImproperlyConfigured(
            f"DEPLOYER_STORAGE must be s3://BUCKET/FOLDER, where needed with ?{'=...&'.join(known)}=..., not {url!r}."
        )
    _check_store(options)
    client = Config(
        s3={"addressing_style": options.pop("addressing_style", None)},
        connect_timeout=10,
        read_timeout=20,
        # Swift and others refuse uploads that carry their checksum at the end; a release has a SHA-256 of its own.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    places = {"bucket_name": parts.netloc, "location": parts.path.strip("/")}
    rules = {"file_overwrite": False, "default_acl": None, "querystring_auth": False, "client_config": client}
    # What is larger is fetched into a file, not into memory.
    rules["max_memory_size"] = 8_000_000
    return {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**places, **rules, **options}}


def _check_store(options: dict[str, str]) -> None:
    """Refuse what would only fail when the first release is stored. Raises `ImproperlyConfigured`."""
    for name, value in options.items():
        if name == "endpoint_url" and not value.startswith(("http://", "https://")):
            wanted = "an address that begins with http:// or https://"
        elif name == "addressing_style" and value not in ("path", "virtual", "auto"):
            wanted = "path, virtual or auto"
        elif name == "verify" and not Path(value or "-").exists():
            wanted = "a file of certificates that is there"
        elif not value:
            wanted = "given or left out"
        else:
            continue
        raise ImproperlyConfigured(f"{name} in DEPLOYER_STORAGE must be {wanted}, not {value!r}.")


# --- where things are kept -------------------------------------------------------------------------

DATA_DIR = Path(os.environ.get("DEPLOYER_DATA_DIR") or BASE_DIR / "data").expanduser().absolute()
try:
    DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    SECRET_KEY = os.environ.get("DEPLOYER_SECRET_KEY") or read_or_make(
        DATA_DIR / "secret.key", lambda: secrets.token_urlsafe(64)
    )
    #: Newest first: the first one encrypts, all of them decrypt.
    DEPLOYER_ENCRYPTION_KEYS = [
        key.strip()
        for key in (
            os.environ.get("DEPLOYER_ENCRYPTION_KEYS") or read_or_make(DATA_DIR / "encryption.key", new_encryption_key)
        ).split(",")
        if key.strip()
    ]
except OSError as error:
    raise ImproperlyConfigured(
        f"DEPLOYER_DATA_DIR={DATA_DIR} cannot be used: {error.strerror}. Name a folder that this user may write."
    ) from error

DATABASES = {"default": _database(os.environ.get("DATABASE_URL", "").strip())}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

#: Release archives, unless DEPLOYER_STORAGE puts them where workers on other machines reach them too.
MEDIA_ROOT = DATA_DIR / "storage"
#: Temporary files: uploaded packages, archives from an object store. The system's own folder for them is often memory.
FILE_UPLOAD_TEMP_DIR = DATA_DIR
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "deployer.web.uploads.NamelessUploadHandler",
]
#: Bare mirrors of the git repositories and the known host keys of git servers.
MIRRORS_DIR = DATA_DIR / "mirrors"
#: Work folders of builds, one for each deployment, removed when it ends.
BUILDS_DIR = DATA_DIR / "builds"

# --- the queue -------------------------------------------------------------------------------------

#: Empty: `manage.py up` brings up a private queue server of its own on QUEUE_SOCKET.
REDIS_URL = os.environ.get("REDIS_URL", "").strip()
QUEUE_IS_EMBEDDED = not REDIS_URL
QUEUE_SOCKET = short_socket_path(DATA_DIR / "queue.sock")
if REDIS_URL and not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
    raise ImproperlyConfigured("REDIS_URL must begin with redis://, rediss:// or unix://.")

_QUEUE = {
    "URL": REDIS_URL or f"unix://{quote(str(QUEUE_SOCKET))}",
    "DEFAULT_TIMEOUT": -1,
    "REDIS_CLIENT_KWARGS": {"socket_connect_timeout": 3},
}
#: Deployments wait on the first one; looks at the servers, which may take long, keep none of them waiting.
RQ_QUEUES = {"default": _QUEUE, "look": _QUEUE}
RQ_SHOW_ADMIN_LINK = False  # the queue's pages are for superusers, at /rq/
RQ = {"WORKER_CLASS": "deployer.queue.worker.DeploymentWorker"}

# --- deployments -----------------------------------------------------------------------------------

DEPLOYER_WORKERS = _whole_number("DEPLOYER_WORKERS", default=2, low=1, high=64)
#: Servers of one deployment that are worked on side by side.
DEPLOYER_PARALLEL_SERVERS = _whole_number("DEPLOYER_PARALLEL_SERVERS", default=50, low=1, high=500)
#: A stored release that went well is deleted after this many days, one that did not after fewer.
DEPLOYER_RELEASE_DAYS = _whole_number("DEPLOYER_RELEASE_DAYS", default=365, low=1, high=36_500)
DEPLOYER_UNPROVED_DAYS = _whole_number("DEPLOYER_UNPROVED_DAYS", default=14, low=1, high=36_500)
#: What a release may hold; beyond it the build is taken for a mistake.
DEPLOYER_RELEASE_MAX_FILES = _whole_number("DEPLOYER_RELEASE_MAX_FILES", default=300_000, low=1, high=100_000_000)
DEPLOYER_RELEASE_MAX_MB = _whole_number("DEPLOYER_RELEASE_MAX_MB", default=10_000, low=1, high=10_000_000)
#: Clone from paths of this machine; off, because everybody who edits a project could read any repository here.
DEPLOYER_ALLOW_LOCAL_GIT = _yes_or_no("DEPLOYER_ALLOW_LOCAL_GIT", default="no")

# --- the site --------------------------------------------------------------------------------------

DEPLOYER_BIND = bind_address(os.environ.get("DEPLOYER_BIND", "").strip() or "127.0.0.1:8000")
#: The site is reached over https (a proxy in front of it sets X-Forwarded-Proto).
DEPLOYER_HTTPS = _yes_or_no("DEPLOYER_HTTPS", default="no")

DEBUG = False
ALLOWED_HOSTS = [
    name.strip() for name in os.environ.get("DEPLOYER_ALLOWED_HOSTS", "").split(",") if name.strip()
] or sorted({"localhost", "127.0.0.1", "[::1]", DEPLOYER_BIND[0]} - {"0.0.0.0", "[::]"})  # noqa: S104 (left out, not bound)
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5_000  # an import of 2,000 servers has a box for each
ROOT_URLCONF = "deployer.urls"
WSGI_APPLICATION = "deployer.wsgi.application"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "template_partials",
    "django_htmx",
    "django_rq",
    "ninja",
    "csp",
    "people",
    "servers",
    "projects",
    "deployer",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "libraries": {"deployments": "deployer.web.tags", "rows": "pages.rows", "times": "pages.times"},
        },
    }
]

AUTH_USER_MODEL = "people.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = DEPLOYER_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if DEPLOYER_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = DEPLOYER_HTTPS
if DEPLOYER_HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
else:
    # Plain http is what DEPLOYER_HTTPS=no asks for: redirects, HSTS and secure cookies would lock everybody out.
    SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008", "security.W012", "security.W016"]
CSRF_TRUSTED_ORIGINS = (
    [f"https://{name.lstrip('.')}" for name in ALLOWED_HOSTS if name != "*"] if DEPLOYER_HTTPS else []
)
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# --- language, time, files -------------------------------------------------------------------------

#: The language of pages before anybody chooses, and of workers and commands with all that they store.
LANGUAGE_CODE = language(os.environ.get("DEPLOYER_LANGUAGE", "").strip().lower() or "en")
LANGUAGE_COOKIE_AGE = 31_536_000
LANGUAGE_COOKIE_SECURE = DEPLOYER_HTTPS
LANGUAGE_COOKIE_SAMESITE = "Lax"
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = os.environ.get("DEPLOYER_TIME_ZONE", "").strip() or "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = DATA_DIR / "static"
MEDIA_URL = "storage/"
STORAGES = {
    "default": storage(os.environ.get("DEPLOYER_STORAGE", "").strip()),
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    # paramiko reports what deployer already says in its own words.
    "loggers": {"paramiko": {"level": "CRITICAL"}},
}
