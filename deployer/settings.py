"""Django settings, read from environment variables and an optional file of them.

The file is `.env` in a checkout, ~/.config/deployer/deployer.env or /etc/deployer/deployer.env for an installation, or
what DEPLOYER_ENV_FILE names.

With nothing set, deployer runs on embedded defaults under one data folder: SQLite and a private
queue server. Every wrong value stops the start with a sentence that names the variable.
"""

import difflib
import os
import pwd
import secrets
import socket
from email.utils import parseaddr
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import django_stubs_ext
import environ
from cryptography.fernet import Fernet
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email

from deployer.host.given import Given, credentials, env_file, own_folder, read_env_file, refuse_unencoded
from deployer.host.keyfiles import ForeignError, make_private, read_if_there, read_or_make, short_socket_path
from deployer.host.kinds import QUEUES, kinds_of
from deployer.host.queue_address import rq_options
from deployer.host.value_commands import value_commands, value_environment, value_folder

django_stubs_ext.monkeypatch()  # type arguments of Django's classes, at run time as for the type checker

BASE_DIR = Path(__file__).resolve().parent.parent
#: The languages of pages, each by its own name. A catalogue for each but the first lies in pages/locale/.
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]

#: Where the code is the project's own folder, what it keeps lies there too; else nothing is kept beside it.
IS_CHECKOUT = (BASE_DIR / "manage.py").is_file() and (BASE_DIR / "pyproject.toml").is_file()
ENV_FILE = Path(os.environ.get("DEPLOYER_ENV_FILE") or (BASE_DIR / ".env" if IS_CHECKOUT else env_file()))

env = environ.Env()
read_env_file(ENV_FILE, is_named="DEPLOYER_ENV_FILE" in os.environ)
given = Given({**({} if IS_CHECKOUT else credentials()), **os.environ})
#: Set by deployer itself, for the programs that it keeps running and the scripts that it runs.
OWN_NAMES = ("DEPLOYER_SUPERVISOR", "DEPLOYER_RUN", "DEPLOYER_ENV_FILE")
#: What the data folder keeps from others, besides being closed to them.
KEPT = ("secret.key", "encryption.key", "db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm", "mirrors", "queue")
SHORTEST_SECRET_KEY = 32
LONGEST_MACHINE_NAME = 100


def user_name(name: str, value: str) -> str:
    """A user of this machine who is not root, or nobody's name; raises `ImproperlyConfigured`."""
    try:
        is_root = bool(value) and pwd.getpwnam(value).pw_uid == 0
    except KeyError as error:
        raise ImproperlyConfigured(f"{name}={value}: this machine has no user of that name.") from error
    if is_root:
        raise ImproperlyConfigured(f"{name} must not be root.")
    return value


def machine_name(value: str) -> str:
    """What a machine is called; raises `ImproperlyConfigured`."""
    if len(value) > LONGEST_MACHINE_NAME or not value.isprintable():
        raise ImproperlyConfigured(
            f"DEPLOYER_MACHINE_NAME must have at most {LONGEST_MACHINE_NAME} printable characters, not {value!r}."
        )
    return value


def build_paths(value: str, data_folder: Path) -> list[Path]:
    """The folders of DEPLOYER_BUILD_PATHS, separated by colons; raises `ImproperlyConfigured`."""
    found = []
    for text in filter(None, (part.strip() for part in value.split(":"))):
        path = Path(text)
        if not path.is_absolute() or not path.is_dir():
            raise ImproperlyConfigured(f"DEPLOYER_BUILD_PATHS must name folders that are there, not {text!r}.")
        real, data = path.resolve(), data_folder.resolve()
        if data.is_relative_to(real) or real.is_relative_to(data):
            raise ImproperlyConfigured(f"DEPLOYER_BUILD_PATHS must not show builds the data folder, as {text} does.")
        found.append(path)
    return found


def language(value: str) -> str:
    """The code of one of `LANGUAGES`; raises `ImproperlyConfigured`."""
    if value not in dict(LANGUAGES):
        raise ImproperlyConfigured(f"DEPLOYER_LANGUAGE must be {' or '.join(dict(LANGUAGES))}, not {value!r}.")
    return value


def encryption_keys(text: str) -> list[str]:
    """The keys of a comma-separated list; raises `ImproperlyConfigured`, without the key, for one that is none."""
    keys = [key.strip() for key in text.split(",") if key.strip()]
    for number, key in enumerate(keys, 1):
        try:
            Fernet(key)
        except ValueError as error:
            raise ImproperlyConfigured(
                f"Key number {number} of DEPLOYER_ENCRYPTION_KEYS (or of encryption.key in the data folder) is no "
                "encryption key: each is 32 bytes in URL-safe base64, separated by commas, the newest first. This "
                "makes one: python3 -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
            ) from error
    return keys


def time_zone(name: str) -> str:
    """The name of a time zone that is there; raises `ImproperlyConfigured`."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        close = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"did you mean {close[0]}?" if close else "give a name like Europe/Berlin or UTC."
        raise ImproperlyConfigured(f"DEPLOYER_TIME_ZONE must be a time zone, not {name!r}: {hint}") from error
    return name


def bind_address(value: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; raises `ImproperlyConfigured`."""
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise ImproperlyConfigured(f"DEPLOYER_BIND must be HOST:PORT, like 127.0.0.1:8000, not {value!r}.")
    return host, int(port)


def site_url(value: str) -> str:
    """The address of the site, without a slash at its end; raises `ImproperlyConfigured`."""
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or "@" in value):
        raise ImproperlyConfigured(f"DEPLOYER_URL must be an address like https://deploy.example.com, not {value!r}.")
    return f"{parts.scheme}://{parts.netloc}" if value else ""


def networks(name: str, value: str) -> list[IPv4Network | IPv6Network]:
    """Addresses and networks, separated by commas; raises `ImproperlyConfigured`."""
    try:
        return [ip_network(word.strip()) for word in value.split(",") if word.strip()]
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} must be addresses or networks, like 10.0.0.5, 192.168.7.0/24: {error}."
        ) from error


def oidc_issuer(value: str) -> str:
    """The address by which an OpenID Connect provider calls itself; raises `ImproperlyConfigured`."""
    parts = urlsplit(value)
    is_safe = parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1", "::1"}
    )
    if value and (not is_safe or not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc):
        raise ImproperlyConfigured(
            "DEPLOYER_OIDC_ISSUER must be the provider's own address, as its .well-known/openid-configuration has it "
            f"under issuer, and begin with https://, not {value!r}."
        )
    return value


def record_file(value: str) -> str:
    """The file that entries of the record are added to, in a folder that is there; raises `ImproperlyConfigured`."""
    if (value and not (Path(value).is_absolute() and Path(value).parent.is_dir())) or Path(value or "/x").is_dir():
        raise ImproperlyConfigured(
            f"DEPLOYER_RECORD_FILE must be the absolute path of a file, in a folder that is there, not {value!r}."
        )
    return value


def syslog_address(value: str) -> str | tuple[str, int]:
    """The socket, or the host and port, of a syslog; empty for none. Raises `ImproperlyConfigured`."""
    if value.lower() in {"", "no", "false", "0", "off"}:
        return ""
    if value.lower() in {"yes", "true", "1", "on"}:
        return "/dev/log"
    if value.startswith("/"):
        return value
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise ImproperlyConfigured(
            f"DEPLOYER_RECORD_SYSLOG must be yes, no, the path of a socket, or HOST:PORT, not {value!r}."
        )
    return host.strip("[]"), int(port)


def mail(url: str, sender: str) -> dict[str, Any]:
    """Django's settings for the server of DEPLOYER_EMAIL_URL. Raises `ImproperlyConfigured`, without its password."""
    if bool(url) != bool(sender):
        raise ImproperlyConfigured("DEPLOYER_EMAIL_URL and DEPLOYER_EMAIL_FROM belong together: set both or none.")
    if not url:
        return {"EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend"}
    scheme = url.partition("://")[0]
    if scheme not in {"smtp", "smtp+tls", "smtp+ssl"}:
        raise ImproperlyConfigured("DEPLOYER_EMAIL_URL must begin with smtp://, smtp+tls:// or smtp+ssl://.")
    refuse_unencoded("DEPLOYER_EMAIL_URL", url, "/?#")
    try:
        config: dict[str, Any] = dict(environ.Env.email_url_config(url))
        validate_email(parseaddr(sender)[1])
    except ValidationError as error:
        raise ImproperlyConfigured(f"DEPLOYER_EMAIL_FROM must be an e-mail address, not {sender!r}.") from error
    except ValueError as error:  # whose words may hold the password
        raise ImproperlyConfigured(
            "DEPLOYER_EMAIL_URL cannot be read: write it as smtp+tls://USER:PASSWORD@HOST:587."
        ) from error
    if not config["EMAIL_HOST"]:
        raise ImproperlyConfigured("DEPLOYER_EMAIL_URL names no host: write it as smtp+tls://USER:PASSWORD@HOST:587.")
    port = {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}[scheme]
    return {
        "EMAIL_HOST": config["EMAIL_HOST"],
        "EMAIL_PORT": config["EMAIL_PORT"] or port,
        "EMAIL_HOST_USER": config["EMAIL_HOST_USER"] or "",
        "EMAIL_HOST_PASSWORD": config["EMAIL_HOST_PASSWORD"] or "",
        "EMAIL_USE_TLS": scheme == "smtp+tls",
        "EMAIL_USE_SSL": scheme == "smtp+ssl",
    }


def database_at(url: str) -> dict[str, Any]:
    """Django's settings of the database at an address; empty: the file in the data folder.

    Raises `ImproperlyConfigured`, without its password.
    """
    if not url:
        url = f"sqlite:///{quote(str(DATA_DIR / 'db.sqlite3'))}"
    if not url.startswith("sqlite"):
        refuse_unencoded("DATABASE_URL", url, "/?")
    try:
        config: dict[str, Any] = dict(environ.Env.db_url_config(url))
    except (ValueError, KeyError, ImproperlyConfigured) as error:  # whose words may hold the password
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be read: write it as postgres://USER:PASSWORD@HOST/NAME or sqlite:////PATH."
        ) from error
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
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or not set(options) <= set(known):
        raise ImproperlyConfigured(
            f"DEPLOYER_STORAGE must be s3://BUCKET/FOLDER, where needed with ?{'=...&'.join(known)}=... (its login is "
            "taken from the environment, as by the AWS tools)."
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

DATA_DIR = (
    Path(given.text("DEPLOYER_DATA_DIR") or (BASE_DIR / "data" if IS_CHECKOUT else own_folder()))
    .expanduser()
    .absolute()
)
#: Made with a new database, never beside one with secrets in it: see deployer.keyring.
DEPLOYER_ENCRYPTION_KEY_FILE = DATA_DIR / "encryption.key"
try:
    DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    for kept in (DATA_DIR, *(DATA_DIR / name for name in KEPT)):
        make_private(kept)
    SECRET_KEY = given.text("DEPLOYER_SECRET_KEY") or read_or_make(
        DATA_DIR / "secret.key", lambda: secrets.token_urlsafe(64)
    )
    #: Newest first: the first one encrypts, all of them decrypt.
    DEPLOYER_ENCRYPTION_KEYS = encryption_keys(
        given.text("DEPLOYER_ENCRYPTION_KEYS") or read_if_there(DEPLOYER_ENCRYPTION_KEY_FILE)
    )
except ForeignError as error:
    raise ImproperlyConfigured(
        f"{error.filename} belongs to another user and is open to others: this user cannot close it. Let it belong to "
        "the user that runs deployer, with mode 0700 for a folder and 0600 for a file."
    ) from error
except OSError as error:
    raise ImproperlyConfigured(
        f"DEPLOYER_DATA_DIR={DATA_DIR} cannot be used: {error.strerror}. Name a folder that this user may write."
    ) from error
if len(SECRET_KEY) < SHORTEST_SECRET_KEY or len(set(SECRET_KEY)) < SHORTEST_SECRET_KEY // 4:
    raise ImproperlyConfigured(
        f"DEPLOYER_SECRET_KEY can be guessed, and with it every login forged: give it at least {SHORTEST_SECRET_KEY} "
        "random characters, as from: python3 -c 'import secrets; print(secrets.token_urlsafe(64))'"
    )

DATABASES = {"default": database_at(given.text("DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

#: Release archives, unless DEPLOYER_STORAGE puts them where workers on other machines reach them too.
MEDIA_ROOT = DATA_DIR / "storage"
FILE_UPLOAD_PERMISSIONS, FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o600, 0o700
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
#: What package managers keep between builds, a folder for each project.
CACHES_DIR = DATA_DIR / "caches"

# --- the queue -------------------------------------------------------------------------------------

#: Empty: `deployer up` brings up a private queue server of its own on QUEUE_SOCKET.
REDIS_URL = given.text("REDIS_URL")
QUEUE_IS_EMBEDDED = not REDIS_URL
QUEUE_SOCKET = short_socket_path(DATA_DIR / "queue.sock")

_QUEUE = {
    **rq_options(REDIS_URL or f"unix://{quote(str(QUEUE_SOCKET))}"),
    "DEFAULT_TIMEOUT": -1,
    "SERIALIZER": "rq.serializers.JSONSerializer",
}
#: Deployments wait on the first one; looks at the servers, and logs that are followed, keep none of them waiting.
#: What was sent to webhooks is judged by whichever worker is free first: that is short.
RQ_QUEUES = dict.fromkeys(QUEUES, _QUEUE)
RQ_SHOW_ADMIN_LINK = False  # the queue's pages are for superusers, at /rq/
RQ = {"WORKER_CLASS": "deployer.queue.worker.DeploymentWorker", "JOB_CLASS": "deployer.queue.job.DeploymentJob"}

# --- deployments -----------------------------------------------------------------------------------

#: What the workers of this machine take; empty: everything.
DEPLOYER_QUEUES = kinds_of(given.text("DEPLOYER_QUEUES"))
#: How workers of this machine call it.
DEPLOYER_MACHINE_NAME = machine_name(given.text("DEPLOYER_MACHINE_NAME") or socket.gethostname())
DEPLOYER_WORKERS = given.whole_number("DEPLOYER_WORKERS", default=2, low=1, high=64)
#: Servers of one deployment that are worked on side by side.
DEPLOYER_PARALLEL_SERVERS = given.whole_number("DEPLOYER_PARALLEL_SERVERS", default=100, low=1, high=500)
#: Of a batch with more servers than this, whichever worker is free takes so many at a time; 0: one worker does all.
DEPLOYER_SLICE = given.whole_number("DEPLOYER_SLICE", default=25, low=0, high=500)
#: A stored release that went well is deleted after this many days, one that did not after fewer.
DEPLOYER_RELEASE_DAYS = given.whole_number("DEPLOYER_RELEASE_DAYS", default=365, low=1, high=36_500)
DEPLOYER_UNPROVED_DAYS = given.whole_number("DEPLOYER_UNPROVED_DAYS", default=14, low=1, high=36_500)
#: What is kept for how many days, unless a project says otherwise; 0: for ever. And how many deployments of a project.
DEPLOYER_LOG_DAYS = given.whole_number("DEPLOYER_LOG_DAYS", default=365, low=0, high=36_500)
DEPLOYER_EVIDENCE_DAYS = given.whole_number("DEPLOYER_EVIDENCE_DAYS", default=365, low=0, high=36_500)
DEPLOYER_DEPLOYMENT_DAYS = given.whole_number("DEPLOYER_DEPLOYMENT_DAYS", default=0, low=0, high=36_500)
DEPLOYER_DEPLOYMENTS = given.whole_number("DEPLOYER_DEPLOYMENTS", default=0, low=0, high=1_000_000)
DEPLOYER_COMMAND_DAYS = given.whole_number("DEPLOYER_COMMAND_DAYS", default=365, low=0, high=36_500)
#: What a release may hold; beyond it the build is taken for a mistake.
DEPLOYER_RELEASE_MAX_FILES = given.whole_number("DEPLOYER_RELEASE_MAX_FILES", default=300_000, low=1, high=100_000_000)
DEPLOYER_RELEASE_MAX_MB = given.whole_number("DEPLOYER_RELEASE_MAX_MB", default=10_000, low=1, high=10_000_000)
#: What the process that reads an archive may take: memory, and seconds of computing.
DEPLOYER_UNPACK_MEMORY_MB = given.whole_number("DEPLOYER_UNPACK_MEMORY_MB", default=768, low=256, high=1_000_000)
DEPLOYER_UNPACK_SECONDS = given.whole_number("DEPLOYER_UNPACK_SECONDS", default=900, low=10, high=86_400)
#: What the stored packages of one project may take, compressed; and what they and builds leave free on its disk.
DEPLOYER_PACKAGES_MAX_MB = given.whole_number("DEPLOYER_PACKAGES_MAX_MB", default=100_000, low=1, high=1_000_000_000)
DEPLOYER_KEEP_FREE_MB = given.whole_number("DEPLOYER_KEEP_FREE_MB", default=500, low=0, high=1_000_000_000)
#: What the log of a deployment keeps, and a server of the output of a script; of what is beyond, the last lines.
DEPLOYER_PARK_AFTER = given.whole_number("DEPLOYER_PARK_AFTER", default=60, low=0, high=86_400)
DEPLOYER_LOG_MAX_MB = given.whole_number("DEPLOYER_LOG_MAX_MB", default=200, low=1, high=1_000_000)
#: Whom `deployer up` becomes when root starts it; empty: it stays root.
DEPLOYER_USER = user_name("DEPLOYER_USER", given.text("DEPLOYER_USER"))
#: How builds are kept apart from this machine: as well as it can, refused where they cannot be, or not at all.
DEPLOYER_BUILD_ISOLATION = given.one_of("DEPLOYER_BUILD_ISOLATION", "auto", "required", "off")
#: The network of builds: one that does not reach this machine's loopback, where that can be had; this machine's; none.
DEPLOYER_BUILD_NETWORK = given.one_of("DEPLOYER_BUILD_NETWORK", "auto", "host", "none")
#: Whom builds run as when deployer is root; empty: nobody.
DEPLOYER_BUILD_USER = user_name("DEPLOYER_BUILD_USER", given.text("DEPLOYER_BUILD_USER"))
#: Folders of programs outside /usr and /opt that builds see, too, read-only.
DEPLOYER_BUILD_PATHS = build_paths(given.text("DEPLOYER_BUILD_PATHS"), DATA_DIR)
#: What one build may take: memory (0: three quarters of the machine's), processes, room on the disk with its caches.
DEPLOYER_BUILD_MEMORY_MB = (
    given.whole_number("DEPLOYER_BUILD_MEMORY_MB", default=0, low=0, high=100_000_000)
    or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1 << 20) * 3 // 4
)
DEPLOYER_BUILD_PROCESSES = given.whole_number("DEPLOYER_BUILD_PROCESSES", default=4096, low=16, high=1_000_000)
DEPLOYER_BUILD_DISK_MB = given.whole_number("DEPLOYER_BUILD_DISK_MB", default=20_000, low=1, high=100_000_000)
#: Clone from paths of this machine; off, because everybody who edits a project could read any repository here.
#: Where values of variables come from at a deployment: commands by name, the variables of this process that those get,
#: and a folder of files.
DEPLOYER_VALUE_COMMANDS = value_commands(
    given.text("DEPLOYER_VALUE_COMMANDS"), ("development", "staging", "production")
)
DEPLOYER_VALUE_ENVIRONMENT = value_environment(given.text("DEPLOYER_VALUE_ENVIRONMENT"))
DEPLOYER_VALUE_FOLDER = value_folder(given.text("DEPLOYER_VALUE_FOLDER"))
DEPLOYER_ALLOW_LOCAL_GIT = given.yes_or_no("DEPLOYER_ALLOW_LOCAL_GIT", default="no")

# --- the site --------------------------------------------------------------------------------------

DEPLOYER_BIND = bind_address(given.text("DEPLOYER_BIND", "127.0.0.1:8000"))
#: How people reach the site, for the links of notices; empty: as far as the other settings tell.
DEPLOYER_URL = site_url(given.text("DEPLOYER_URL"))
#: The site is reached over https (a proxy in front of it sets X-Forwarded-Proto).
DEPLOYER_HTTPS = given.yes_or_no("DEPLOYER_HTTPS", default="no")

#: Requests a minute that the API answers to each token; 0: as many as come.
DEPLOYER_API_RATE = given.whole_number("DEPLOYER_API_RATE", default=600, low=0, high=1_000_000)
#: Networks whose word about where a request comes from is taken. A site with https has its proxy on this machine unless
#: it says otherwise.
DEPLOYER_TRUSTED_PROXIES = networks(
    "DEPLOYER_TRUSTED_PROXIES",
    given.text("DEPLOYER_TRUSTED_PROXIES") or ("127.0.0.1, ::1" if DEPLOYER_HTTPS else ""),
)
#: Who reads the figures at /metrics: whoever has the token, whoever comes from the networks; neither: nobody.
DEPLOYER_METRICS_TOKEN = given.text("DEPLOYER_METRICS_TOKEN")
DEPLOYER_METRICS_NETWORKS = networks("DEPLOYER_METRICS_NETWORKS", given.text("DEPLOYER_METRICS_NETWORKS"))
if DEPLOYER_METRICS_TOKEN and len(DEPLOYER_METRICS_TOKEN) < SHORTEST_SECRET_KEY:
    raise ImproperlyConfigured(
        f"DEPLOYER_METRICS_TOKEN can be guessed: give it at least {SHORTEST_SECRET_KEY} characters, as from: "
        "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
    )
#: Web processes of this machine add up in files here what they count; the library reads the name when it is loaded.
METRICS_DIR = DATA_DIR / "metrics"
METRICS_DIR.mkdir(mode=0o700, exist_ok=True)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(METRICS_DIR)
#: Where each entry of the record is written, too, as a line of JSON.
DEPLOYER_RECORD_FILE = record_file(given.text("DEPLOYER_RECORD_FILE"))
DEPLOYER_RECORD_SYSLOG = syslog_address(given.text("DEPLOYER_RECORD_SYSLOG"))

#: Who must have a second factor: nobody; whoever may act in production, before they can do anything; everybody.
DEPLOYER_SECOND_FACTOR = given.one_of("DEPLOYER_SECOND_FACTOR", "off", "production", "everybody")
#: A provider that people sign in with, beside the passwords of this site; empty: there is none.
DEPLOYER_OIDC_ISSUER = oidc_issuer(given.text("DEPLOYER_OIDC_ISSUER"))
DEPLOYER_OIDC_CLIENT_ID = given.text("DEPLOYER_OIDC_CLIENT_ID")
DEPLOYER_OIDC_CLIENT_SECRET = given.text("DEPLOYER_OIDC_CLIENT_SECRET")
#: What the button of the login calls it.
DEPLOYER_OIDC_NAME = given.text("DEPLOYER_OIDC_NAME") or urlsplit(DEPLOYER_OIDC_ISSUER).hostname or ""
DEPLOYER_OIDC_SCOPES = given.text("DEPLOYER_OIDC_SCOPES", "openid profile email").split()
#: The claim that lists somebody's groups.
DEPLOYER_OIDC_GROUPS_CLAIM = given.text("DEPLOYER_OIDC_GROUPS_CLAIM", "groups")
#: Whether the provider's word about an e-mail address makes somebody the user of this site with that address.
DEPLOYER_OIDC_TRUST_EMAIL = given.yes_or_no("DEPLOYER_OIDC_TRUST_EMAIL", default="no")
if bool(DEPLOYER_OIDC_ISSUER) != bool(DEPLOYER_OIDC_CLIENT_ID):
    raise ImproperlyConfigured("DEPLOYER_OIDC_ISSUER and DEPLOYER_OIDC_CLIENT_ID belong together: set both or none.")

DEBUG = False
ALLOWED_HOSTS = [name.strip() for name in given.text("DEPLOYER_ALLOWED_HOSTS").split(",") if name.strip()] or sorted(
    {"localhost", "127.0.0.1", "[::1]", DEPLOYER_BIND[0]} - {"0.0.0.0", "[::]"}  # noqa: S104 (left out, not bound)
)
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5_000  # an import of 2,000 servers has a box for each
ROOT_URLCONF = "deployer.urls"
WSGI_APPLICATION = "deployer.wsgi.application"

INSTALLED_APPS = [
    "people.apps.GuardedAdminConfig",
    "allauth",  # before people, who take out of the admin what it puts there
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "people",  # before Django's own users: it has their command that changes a password
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
    "servers",
    "projects",
    "deployer",
]

MIDDLEWARE = [
    "deployer.web.health.Health",  # monitors come by any name, and by plain http
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "deployer.web.middleware.keep_no_copies",
    "deployer.api.errors.JsonErrors",
    "deployer.api.limits.RateLimits",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "people.acting.ActorMiddleware",
    "people.sign_in.SignInMiddleware",
    "django.middleware.common.CommonMiddleware",
    "deployer.web.uploads.BodyGate",  # before the CSRF check, which parses a form
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "people.preferences.PreferencesMiddleware",
    "people.factors.FactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "deployer.web.middleware.UnreadableSecrets",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "pages" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "libraries": {
                "deployments": "deployer.web.tags",
                "rows": "pages.rows",
                "times": "pages.times",
                "rights": "people.tags",
            },
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
    "people.hashing.OneAtATimeArgon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
# Signing in is done by django-allauth, with the addresses in people/urls.py and no others.
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
ACCOUNT_ADAPTER = "people.sign_in.SignInAdapter"
ACCOUNT_FORMS = {"login": "people.sign_in.SignInForm"}
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
#: Passwords are counted by people.sign_in; this is for codes of a second factor, after a right password.
ACCOUNT_RATE_LIMITS = {"login": "", "reauthenticate": "", "login_failed": "5/5m/key,100/1d/key"}
MFA_ADAPTER = "people.factors.FactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes", "webauthn"]
MFA_TOTP_ISSUER = "deployer"
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_ALLOW_UNVERIFIED_EMAIL = True
SOCIALACCOUNT_ADAPTER = "people.provider.ProviderAdapter"
#: The login's button is a link: a form that ends at another site is refused by our content security policy.
SOCIALACCOUNT_LOGIN_ON_GET = True
SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True}}
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

#: What has to hold for all web processes is kept in the database; the other cache is each process's own.
CACHES = {
    "default": {"BACKEND": "people.counting.CountsCache"},
    "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}

# --- notices ---------------------------------------------------------------------------------------

#: Networks that are not of the internet, and that channels may send to all the same.
DEPLOYER_NOTICE_NETWORKS = networks("DEPLOYER_NOTICE_NETWORKS", given.text("DEPLOYER_NOTICE_NETWORKS"))

# --- mail ------------------------------------------------------------------------------------------

#: The sender of invitations; empty: no mail is sent, and pages say so.
DEPLOYER_EMAIL_FROM = given.text("DEPLOYER_EMAIL_FROM")
vars().update(mail(given.text("DEPLOYER_EMAIL_URL"), DEPLOYER_EMAIL_FROM))
DEFAULT_FROM_EMAIL = DEPLOYER_EMAIL_FROM or "deployer"
EMAIL_TIMEOUT = 15

# --- language, time, files -------------------------------------------------------------------------

#: The language of pages before anybody chooses, and of workers and commands with all that they store.
LANGUAGE_CODE = language(given.text("DEPLOYER_LANGUAGE", "en").lower())
LANGUAGE_COOKIE_AGE = 31_536_000
LANGUAGE_COOKIE_SECURE = DEPLOYER_HTTPS
LANGUAGE_COOKIE_SAMESITE = "Lax"
LOCALE_PATHS = [BASE_DIR / "pages" / "locale"]
TIME_ZONE = time_zone(given.text("DEPLOYER_TIME_ZONE", "UTC"))
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "pages" / "static"]
STATIC_ROOT = DATA_DIR / "static"
MEDIA_URL = "storage/"
STORAGES = {
    "default": storage(given.text("DEPLOYER_STORAGE")),
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

#: How processes write their logs: for people, or a JSON object a line.
DEPLOYER_LOG_FORMAT = given.one_of("DEPLOYER_LOG_FORMAT", "plain", "json")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(levelname)s %(name)s: %(message)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(levelname)s %(name)s %(message)s",
            "rename_fields": {"levelname": "level", "name": "logger"},
            "timestamp": True,
            "json_ensure_ascii": False,
        },
    },
    "filters": {"ids": {"()": "deployer.ids.Ids"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": DEPLOYER_LOG_FORMAT, "filters": ["ids"]}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    # paramiko reports what deployer already says in its own words.
    "loggers": {"paramiko": {"level": "CRITICAL"}},
}

given.refuse_unknown("DEPLOYER_", *OWN_NAMES)
