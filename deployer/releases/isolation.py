"""How builds are kept apart on this machine: by the settings, and by what works here."""

import os
import pwd
import shutil
import stat
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from deployer.releases.caches import size_of
from deployer.releases.workfolders import WorkFolder
from servers.errors import ShellError
from servers.isolation import FORWARDERS, AsUser, Confinement, LimitError, Limits, Network, Sandbox, Sandboxed, User
from servers.local import LocalShell
from servers.shell import Script

_MB = 1 << 20
#: Seconds in which a sandbox must have shown that it works.
_PROBE_LIMIT = 30
#: Where a build has its folders in a sandbox.
_TREE, _PYTHON, _HOME, _PACKED, _TEMPORARY = "/build", "/python", "/home/build", "/packed", "/tmp"  # noqa: S108
#: Whom builds run as on a machine that has no user of that name.
_NOBODY = User(65534, 65534)
_PLACES = {_TREE: "tree", _PYTHON: "python", _HOME: "home", _PACKED: "packed", _TEMPORARY: "temporary"}


class Way(Enum):
    """How a build is kept apart from this machine."""

    SANDBOX = auto()
    USER = auto()
    NONE = auto()


@dataclass(frozen=True)
class Isolation:
    """What keeps builds apart here. ``why``: why that is less than a sandbox, as far as the machine says so.

    ``user`` is whom builds run as, where that is another than the platform's.
    """

    way: Way
    network: Network = Network.HOST
    forwarder: str = ""
    user: User | None = None
    why: str = ""

    @property
    def falls_short(self) -> bool:
        """Whether a build reaches something of this machine that nobody has allowed it to."""
        return self.way != Way.SANDBOX or (self.network == Network.HOST and settings.DEPLOYER_BUILD_NETWORK != "host")

    @property
    def is_refused(self) -> bool:
        """Whether the settings refuse to build like this."""
        return settings.DEPLOYER_BUILD_ISOLATION == "required" and self.way == Way.NONE

    def told(self) -> str:
        """A sentence about it, for an operator."""
        if self.way == Way.NONE:
            return _("Builds are not isolated: a build script can read deployer's keys and database")
        if self.way == Way.USER:
            return _("Builds are not in a sandbox: they run as another user, who sees this machine")
        if self.network == Network.HOST:
            return _("Builds are in a sandbox, but reach the services on this machine's loopback")
        if self.network == Network.NONE:
            return _("Builds are in a sandbox without a network")
        return _("Builds are in a sandbox, with a network of their own")

    def reason(self) -> str:
        """Why it is not more than that."""
        if self.way == Way.SANDBOX:
            if settings.DEPLOYER_BUILD_NETWORK == "host":
                return _("DEPLOYER_BUILD_NETWORK says so")
            return self.why or _("neither slirp4netns nor pasta works here")
        if settings.DEPLOYER_BUILD_ISOLATION == "off":
            return _("DEPLOYER_BUILD_ISOLATION says so")
        return self.why or _("bubblewrap is not installed")

    def remedy(self) -> str:
        """What makes it more."""
        if self.way == Way.SANDBOX:
            return _("Install slirp4netns or passt on deployer's machine, and let it use /dev/net/tun.")
        if settings.DEPLOYER_BUILD_ISOLATION == "off":
            return _("Set DEPLOYER_BUILD_ISOLATION to auto or required.")
        return _("Install bubblewrap on deployer's machine, and allow user namespaces or run deployer as root.")


@cache
def isolation() -> Isolation:
    """What keeps builds apart: found out once in the life of a process, by trying."""
    if settings.DEPLOYER_BUILD_ISOLATION == "off":
        return Isolation(Way.NONE)
    user = _build_user() if os.geteuid() == 0 else None
    with WorkFolder("probe") as folder:
        why, problem = "", ""
        if shutil.which("bwrap") is not None:
            why = _fails(folder.path, Isolation(Way.SANDBOX, Network.NONE, user=user))
            if not why:
                return _with_network(folder.path, user)
        if user is not None and not (problem := _fails(folder.path, Isolation(Way.USER, user=user))):
            return Isolation(Way.USER, user=user, why=why)
        return Isolation(Way.NONE, why="; ".join(filter(None, [why, problem])))


def _with_network(folder: Path, user: User | None) -> Isolation:
    """A sandbox that works, with the network that is wanted, as far as that can be had."""
    if settings.DEPLOYER_BUILD_NETWORK == "none":
        return Isolation(Way.SANDBOX, Network.NONE, user=user)
    why = ""
    if settings.DEPLOYER_BUILD_NETWORK == "auto":
        for forwarder in FORWARDERS:
            if shutil.which(forwarder) is not None:
                found = Isolation(Way.SANDBOX, Network.OWN, forwarder, user)
                if not (why := _fails(folder, found)):
                    return found
    return Isolation(Way.SANDBOX, Network.HOST, user=user, why=why)


def _build_user() -> User:
    """Whom builds run as when deployer is root."""
    try:
        entry = pwd.getpwnam(settings.DEPLOYER_BUILD_USER or "nobody")
    except KeyError:
        return _NOBODY
    return User(entry.pw_uid, entry.pw_gid)


def _fails(folder: Path, tried: Isolation) -> str:
    """Why builds cannot be kept apart like this; empty where they can."""
    room = BuildRoom(tried, folder / f"{tried.way.name}-{tried.forwarder}")
    said: list[bytes] = []
    try:
        room.furnish()
        code = LocalShell("", room.for_scripts()).run(
            Script("true >works", room.environment, room.tree),
            lambda _stream, data: said.append(data),
            timeout=_PROBE_LIMIT,
            stop=threading.Event(),
        )
    except (ShellError, OSError) as error:
        return str(error)
    return "" if not code else b"".join(said).decode(errors="replace").strip()[-300:] or f"status {code}"


class BuildRoom:
    """The folders of one build on this machine, below ``folder``, and where the build finds them.

    ``kept`` are folders that outlive it, by where each is looked for from the home folder.
    """

    def __init__(self, isolation: Isolation, folder: Path, kept: Mapping[str, Path] | None = None) -> None:
        self.isolation = isolation
        self._kept = kept or {}
        self._folders = {inside: folder / name for inside, name in _PLACES.items()}
        self._disk = _Disk([folder, *self._kept.values()])

    @property
    def tree(self) -> str:
        """The exported tree, as the build finds it."""
        return self._inside(_TREE)

    @property
    def python(self) -> str:
        """Where a Python environment is made, which is not released."""
        return self._inside(_PYTHON)

    @property
    def packed(self) -> str:
        """Where the release is packed, as the packing finds it."""
        return self._inside(_PACKED)

    @property
    def packed_here(self) -> Path:
        """The same folder."""
        return self._folders[_PACKED]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a build has from deployer, before its own."""
        if self.isolation.way == Way.SANDBOX:
            return {}
        # No repository above the tree, deployer's own for one, is taken for the tree's.
        above = str(self._folders[_TREE].parent)
        return {"HOME": self._inside(_HOME), "TMPDIR": self._inside(_TEMPORARY), "GIT_CEILING_DIRECTORIES": above}

    @property
    def search_path(self) -> str:
        """PATH, as a build has it."""
        if self.isolation.way == Way.SANDBOX:
            return self._sandbox.search_path
        return os.environ.get("PATH", os.defpath)

    def furnish(self) -> None:
        """Make the folders that are not there yet, and make all of them the build's."""
        home = self._folders[_HOME]
        for path in self._folders.values():
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name, kept in self._kept.items():
            place = home / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if self.isolation.way == Way.SANDBOX:
                place.mkdir()
            else:
                place.symlink_to(kept, target_is_directory=True)
        if self.isolation.user is not None:
            fresh = [path for path in self._kept.values() if path.lstat().st_uid != self.isolation.user.uid]
            for path in (*self._folders.values(), *fresh):
                _hand_over(path, self.isolation.user)
            if self.isolation.way == Way.USER:
                _let_pass(home.parent, *{path.parent for path in self._kept.values()})

    def for_scripts(self) -> Confinement:
        """How the scripts of the build are started: with its caches and the network."""
        if self.isolation.way != Way.SANDBOX:
            return AsUser(self.isolation.user, _limits(), self._disk)
        return Sandboxed(self._sandbox, _limits(), self._disk)

    def for_packing(self) -> Confinement:
        """How the built tree is packed: nothing else is seen, and there is no network."""
        if self.isolation.way != Way.SANDBOX:
            return AsUser(self.isolation.user, check=self._disk)
        places = {inside: self._folders[inside] for inside in (_TREE, _PACKED, _TEMPORARY)}
        return Sandboxed(Sandbox(places, user=self.isolation.user), check=self._disk)

    @property
    def _sandbox(self) -> Sandbox:
        places = {inside: self._folders[inside] for inside in (_TREE, _PYTHON, _HOME, _TEMPORARY)}
        return Sandbox(
            writable=places | {f"{_HOME}/{name}": path for name, path in self._kept.items()},
            readable=[*_python_of_this_process(), *settings.DEPLOYER_BUILD_PATHS],
            hidden=[settings.DATA_DIR, settings.BASE_DIR, Path.home()],
            network=self.isolation.network,
            forwarder=self.isolation.forwarder,
            user=self.isolation.user,
            home=_HOME,
        )

    def _inside(self, place: str) -> str:
        return place if self.isolation.way == Way.SANDBOX else str(self._folders[place])


def lacks(tool: str, environment: Mapping[str, str]) -> bool:
    """Whether no build would find the program ``tool``, with these variables of its own."""
    room = BuildRoom(isolation(), settings.BUILDS_DIR)
    return shutil.which(tool, path=environment.get("PATH", room.search_path)) is None


def remedy_for_lacking() -> str:
    """What to do about a program that builds do not find."""
    return _("Install it on deployer's machine in /usr or /opt, or name its folder in DEPLOYER_BUILD_PATHS.")


class _Disk:
    """Looks at the disk while a build runs: what its ``folders`` take, and what is left. Raises `LimitError`.

    Counting takes at most a twentieth of the time.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._look_at = self._count_at = time.monotonic() + 1

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + 1
        disk = os.statvfs(settings.BUILDS_DIR)
        if disk.f_bavail * disk.f_frsize < settings.DEPLOYER_KEEP_FREE_MB * _MB:
            raise LimitError("free", _("it left too little room on the disk, and was ended"))
        if now >= self._count_at:
            taken = sum(map(size_of, self._folders))
            self._count_at = time.monotonic() + max(2, 20 * (time.monotonic() - now))
            if taken > settings.DEPLOYER_BUILD_DISK_MB * _MB:
                raise LimitError("disk", _("it took more room on the disk than it may, and was ended"))


def _limits() -> Limits:
    memory, disk = (number * _MB for number in (settings.DEPLOYER_BUILD_MEMORY_MB, settings.DEPLOYER_BUILD_DISK_MB))
    return Limits(memory, settings.DEPLOYER_BUILD_PROCESSES, disk)


def _python_of_this_process() -> list[Path]:
    """Where the Python lies that runs deployer, if that is not with the machine's programs: builds use it, too."""
    place = Path(sys.base_prefix).resolve()
    return [] if str(place) in ("/usr", "/usr/local") else [place]


def _hand_over(folder: Path, user: User) -> None:
    """Make ``folder`` with everything in it another user's; links themselves, not what they lead to."""
    for _name, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, *user, dir_fd=descriptor, follow_symlinks=False)
        os.fchown(descriptor, *user)


def _let_pass(*folders: Path) -> None:
    """Let another user pass ``folders`` and the data folder; what else is there is closed to everybody else."""
    for path in Path(settings.DATA_DIR).iterdir():
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o077)
    data = Path(settings.DATA_DIR)
    for path in {above for folder in folders for above in (folder, *folder.parents) if above.is_relative_to(data)}:
        path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o011)
