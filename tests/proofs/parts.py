"""The parts that services need: what is missing, and by which command it comes; what is made once is kept."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.parts.programs import HOUSE

#: The environment that has gunicorn with setproctitle; the product's own has gunicorn without it.
TITLED = HOUSE / ".venv-proofs"
PM2 = "pm2@7.0.4"
RELEASE = "bookworm"
PACKAGES = "systemd,libpam-systemd,dbus,openssh-server,python3,procps"
#: Units that a machine for tests does not need, and the sshd whose place ours takes.
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("e2scrub_reap.service", "console-getty.service", "ssh.service", "ssh.socket", "systemd-update-utmp.service"),
)
#: The machine's sshd; its configuration is bound in at each boot.
SSHD_UNIT = """\
[Service]
ExecStart=/usr/sbin/sshd -D -e -f /machine/sshd_config
RuntimeDirectory=sshd
KillMode=process
"""


class MissingError(Exception):
    """A part is missing; the message says how it comes, or why it cannot be had here."""


class CannotRunError(MissingError):
    """This environment does not let it run, whatever is installed."""


# --- what must be installed --------------------------------------------------------------------------

#: Program: the Debian packages that bring it.
INSTALLED = {
    "nginx": "nginx",
    "supervisord": "supervisor",
    "node": "nodejs",
    "npm": "npm",
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "podman": "podman",
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "vi": "vim-tiny",
    "unshare": "util-linux",
    "uwsgi": "uwsgi",
}
_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find(name: str) -> str:
    """The path of an installed program. Raises `MissingError`."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM]))
    if path is None:
        raise MissingError(f"{name} is missing: apt-get install {INSTALLED[name]}")
    return path


def gunicorn() -> str:
    """gunicorn whose processes keep the command lines that they were started with."""
    return str(HOUSE / ".venv" / "bin" / "gunicorn")


def titled_gunicorn() -> str:
    """gunicorn whose processes give themselves titles. Raises `MissingError`."""
    path = TITLED / "bin" / "gunicorn"
    if not path.exists():
        raise MissingError("gunicorn with setproctitle is missing: .ci/venv requirements-proofs.txt .venv-proofs")
    return str(path)


def uwsgi() -> str:
    """uwsgi that runs Python. Raises `MissingError`."""
    if not any(Path("/usr/lib/uwsgi/plugins").glob("python3*_plugin.so")):
        raise MissingError("uwsgi's plugin for Python is missing: apt-get install uwsgi uwsgi-plugin-python3")
    return find("uwsgi")


def php_fpm() -> str:
    """php-fpm, whose name has its version on Debian. Raises `MissingError`."""
    found = sorted(Path("/usr/sbin").glob("php-fpm*"))
    if not found:
        raise MissingError("php-fpm is missing: apt-get install php-fpm")
    return str(found[-1])


# --- what is made once and kept ----------------------------------------------------------------------


def kept() -> Path:
    """The folder for what is made once."""
    cache_folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_folder) / "deployer-proofs"


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    kept().mkdir(parents=True, exist_ok=True)
    with (kept() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(name: str, make: Callable[[Path], None]) -> Path:
    """The kept folder ``name``; ``make`` fills it where it is not there yet."""
    folder = kept() / name
    with _one_at_a_time():
        if not folder.exists():
            part = folder.with_name(f"{name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            part.rename(folder)
    return folder


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        words = " ".join(map(str, command))
        raise MissingError(f"this failed: {words}: {(done.stderr or done.stdout).strip()[-500:]}")


@cache
def pm2() -> str:
    """pm2, installed by npm. Raises `MissingError`."""
    npm, _node = find("npm"), find("node")
    options = ("--no-audit", "--no-fund", "--omit=optional")

    def make(folder: Path) -> None:
        _run(npm, "install", "--prefix", folder, *options, PM2)

    return str(_make(PM2.replace("@", "-"), make) / "node_modules" / ".bin" / "pm2")


#: What the applications of tests are made of; `wheels` and `npm_packages` fetch it.
WHEELS = ("Django==5.2.*", "gunicorn==27.0.1", "whitenoise==6.*")
#: Two states of an application's packages: the second one has another version of one of them.
NODE_PACKAGES = ({"express": "4.21.2", "ms": "2.1.2"}, {"express": "4.21.2", "ms": "2.1.3"})


@cache
def wheels() -> Path:
    """A folder with the packages of a Django application, for a pip without an index. Raises `MissingError`."""

    def make(folder: Path) -> None:
        _run(HOUSE / ".venv" / "bin" / "python", "-m", "pip", "download", "-q", "-d", folder, *WHEELS)

    return _make(f"wheels-{_digest(*WHEELS)}", make)


@cache
def npm_packages() -> tuple[list[tuple[str, str]], str]:
    """Both states of a Node application's package.json and package-lock.json, and settings for an npm that is offline.

    Raises `MissingError`.
    """
    npm = find("npm")
    options = ("--no-audit", "--no-fund", "--omit-lockfile-registry-resolved=false")

    def make(folder: Path) -> None:
        for number, needs in enumerate(NODE_PACKAGES):
            own = folder / str(number)
            own.mkdir()
            document = {"name": "shop", "version": "1.0.0", "private": True, "main": "server.js", "dependencies": needs}
            (own / "package.json").write_text(json.dumps(document, indent=2))
            _run(npm, "install", "--prefix", own, "--cache", folder / "cache", *options)
            shutil.rmtree(own / "node_modules")
        registry = subprocess.check_output([npm, "config", "get", "registry"], text=True)  # its cache knows addresses
        (folder / "npmrc").write_text(f"offline=true\nupdate-notifier=false\nregistry={registry}")

    folder = _make(f"express-{_digest(json.dumps(NODE_PACKAGES))}", make)
    states = [[(folder / str(n) / f"{name}.json").read_text() for name in ("package", "package-lock")] for n in (0, 1)]
    return [(one, lock) for one, lock in states], f"cache={folder}/cache\n{(folder / 'npmrc').read_text()}"


@cache
def shop_jar() -> Path:
    """The shop in Java. Raises `MissingError`."""
    _java, javac = find("java"), find("javac")
    source = Path(__file__).parent / "shop" / "Shop.java"

    def make(folder: Path) -> None:
        _run(javac, "--release", "11", "-d", folder, source)
        with zipfile.ZipFile(folder / "shop.jar", "w") as jar:
            jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\nMain-Class: Shop\n")
            for path in folder.glob("*.class"):
                jar.write(path, path.name)

    return _make(f"shop-{_digest(source.read_text())}", make) / "shop.jar"


@cache
def debian() -> Path:
    """The tree of a Debian with systemd and an SSH server. Raises `MissingError`."""
    if os.getuid() != 0:
        raise CannotRunError("a Debian of its own can be made by root only")
    debootstrap = find("debootstrap")

    def make(folder: Path) -> None:
        _run(debootstrap, "--variant=minbase", f"--include={PACKAGES}", RELEASE, folder)
        units = folder / "etc" / "systemd" / "system"
        for name in MASKED:
            (units / name).unlink(missing_ok=True)
            (units / name).symlink_to("/dev/null")
        (units / "machine-sshd.service").write_text(SSHD_UNIT)
        (units / "multi-user.target.wants" / "machine-sshd.service").symlink_to("../machine-sshd.service")
        (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
        (folder / "machine").mkdir()

    return _make(f"debian-{_digest(RELEASE, PACKAGES, SSHD_UNIT, *MASKED)}", make)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]


# --- what this environment lets run ------------------------------------------------------------------


@cache
def need_namespaces(command: tuple[str, ...]) -> None:
    """Raise `CannotRunError` where processes cannot have a namespace of their own, as ``command`` makes it."""
    find("unshare")
    try:
        _run(*command, "true")
    except MissingError as error:
        raise CannotRunError(f"processes cannot have a namespace of their own here: {error}") from error
