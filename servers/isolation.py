"""Keeps a script of this machine apart from it: what it sees, as whom it runs, how much it may take.

A `Sandbox` says what a program sees; `Sandbox.arguments` makes the options of bubblewrap from it, whoever runs that.
`Sandboxed` runs the scripts of a `servers.local.LocalShell` in sandboxes, `AsUser` without::

    sandbox = Sandbox(writable={"/build": folder}, network=Network.NONE, user=User(65534, 65534))
    LocalShell(key, Sandboxed(sandbox)).run(Script("make", folder="/build"), ...)

In a sandbox no process, no socket and no user's file of this machine is seen: it has a mount, a process, an IPC and,
unless its network is `Network.HOST`, a network namespace of its own. Its processes end with it, however detached they
are. Root hands it to another user without any capability; an ordinary user makes it in a user namespace.
"""

import contextlib
import enum
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar, NamedTuple, Protocol

from django.utils.translation import gettext as _

from servers.errors import ShellError
from servers.processes import begin_build, processes_below
from servers.shell import RUN_MARKER, Script

#: What programs need of /etc: no password, no key, no configuration of a service.
_ETC = (
    *("alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "pki", "ssl"),
    *("gai.conf", "host.conf", "hosts", "nsswitch.conf", "protocols", "services"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "timezone"),
    *("debian_version", "lsb-release", "magic", "mime.types", "os-release", "terminfo", "fonts"),
    *("java", "maven", "gradle", "nodejs", "npmrc", "php", "pip.conf", "python3", "ruby", "perl", "R"),
)
#: Those with a version in their names.
_ETC_VERSIONS = ("java-*", "python3.*")
#: Folders of programs; the second often holds other things, too, which have to be hidden.
_PROGRAMS = ("/usr", "/opt")
#: Links into /usr, or folders on machines that have not merged them.
_USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SHOWN = (*_PROGRAMS, *(f"/{name}" for name in _USR_LINKS))
_SEARCHED = ("/usr/local/bin", "/usr/bin", "/bin")
_SHARED_MEMORY = 256 << 20
#: What the process that becomes another user needs for that; it has nothing of it afterwards.
_TO_HAND_OVER = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
#: Programs that lead out of a network namespace, the fastest first, and where each answers questions for names.
FORWARDERS = {"slirp4netns": "10.0.2.3", "pasta": "169.254.53.53"}
#: Seconds that a sandbox and its network have to come up, and its processes to end.
_PATIENCE = 20.0
_NS_GET_USERNS = 0xB701  # ioctl_ns(2)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: Waits for the network, once everything else is there.
_WAIT = """\
echo up >&{says}
read -r -N 1 -u {waits}
"""
#: Tells how many processes are left when a script has ended: all but the sandbox's first one and this one.
_COUNT = """\
left=0
for stat in /proc/[0-9]*/stat; do
{{ read -r line <"$stat"; }} 2>/dev/null || continue
case ${{line##*) }} in Z*) ;; *) left=$((left + 1)) ;; esac
done
echo $((left - 2)) >&{says}
exit $code
"""


class Network(enum.StrEnum):
    """The network of a sandbox: this machine's, one of its own with a way out, or one that leads nowhere."""

    HOST = "host"
    OWN = "own"
    NONE = "none"


class User(NamedTuple):
    """A user of this machine, by numbers."""

    uid: int
    gid: int


class Limits(NamedTuple):
    """What a script may take; 0: as much as there is.

    ``memory``: bytes, of each process and, looked at every second, of all together. ``processes``: how many, threads
    among them; of a user's, where root hands a script to that user. ``file_size``: bytes of one file.
    """

    memory: int = 0
    processes: int = 0
    file_size: int = 0


UNLIMITED = Limits()


class _End:
    """An end of a pipe, which is closed once."""

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)


class _Gate(NamedTuple):
    """How this process and the first script of a sandbox speak to each other, by two pipes."""

    hears: _End
    says: _End
    waits: _End
    go: _End

    def filled(self, text: str) -> str:
        """A text for bash with the numbers of the script's ends."""
        return text.format(says=self.says.number, waits=self.waits.number)

    def heard(self, patience: float) -> bytes:
        """What the script says within ``patience`` seconds; nothing where it is gone."""
        ready, _writable, _failed = select.select([self.hears.number], [], [], patience)
        return os.read(self.hears.number, 32) if ready else b""


class IsolationError(ShellError):
    """A script could not be kept apart as it should be; it was not started."""


class LimitError(ShellError):
    """A script took more than it may and was ended; ``limit`` is the name of the limit."""

    def __init__(self, limit: str, what: str) -> None:
        super().__init__(what)
        self.limit = limit


@dataclass(frozen=True)
class Sandbox:
    """What a program sees and may do.

    ``writable``: folders by the path that each has inside. ``readable`` have their own path inside. ``hidden`` are
    empty inside, where they lie in something that is seen. ``user``: whom root hands it to. ``forwarder``: the program
    of `FORWARDERS` that leads out of a network of its own. ``home`` is a folder inside.
    """

    writable: Mapping[str, Path] = field(default_factory=dict)
    readable: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    network: Network = Network.NONE
    forwarder: str = ""
    user: User | None = None
    home: str = "/"

    def arguments(self, files: Mapping[str, int]) -> list[str]:
        """The options of bwrap. ``files``: readable files by their path inside, each an open descriptor."""
        return [
            *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
            *([] if self.user else ["--unshare-user"]),
            *([] if self.network == Network.HOST else ["--unshare-net"]),
            *("--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
            *(word for name in (_TO_HAND_OVER if self.user else ()) for word in ("--cap-add", name)),
            *_programs(),
            *_etc(),
            *(word for path in self._seen(self.hidden) for word in ("--tmpfs", str(path))),
            *(word for path in self.readable for word in (*_above(path), "--ro-bind", str(path), str(path))),
            *("--proc", "/proc", "--dev", "/dev"),
            *("--size", str(_SHARED_MEMORY), "--perms", "1777", "--tmpfs", "/dev/shm"),  # noqa: S108 (inside)
            *("--perms", "0755", "--dir", "/run", "--perms", "0755", "--dir", "/var", "--symlink", "/tmp", "/var/tmp"),  # noqa: S108 (inside)
            *(
                word
                for inside, path in self.writable.items()
                for word in (*_above(Path(inside)), "--bind", str(path), inside)
            ),
            *(
                word
                for inside, descriptor in files.items()
                for word in ("--perms", "0444", "--ro-bind-data", str(descriptor), inside)
            ),
            *("--remount-ro", "/", "--chdir", "/"),
        ]

    @property
    def handover(self) -> list[str]:
        """The words before the command inside: root becomes the other user for good."""
        if self.user is None:
            return []
        ids = [f"--reuid={self.user.uid}", f"--regid={self.user.gid}", "--clear-groups"]
        return ["/usr/bin/setpriv", *ids, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]

    @property
    def search_path(self) -> str:
        """PATH inside: programs of the readable folders first, then those of this process's PATH that are seen."""
        own = [str(path / "bin") for path in self.readable if (path / "bin").is_dir()]
        inherited = [name for name in os.environ.get("PATH", "").split(os.pathsep) if self._shows(Path(name))]
        return os.pathsep.join(dict.fromkeys([*own, *inherited, *_SEARCHED]))

    def _shows(self, path: Path) -> bool:
        if any(path.is_relative_to(each) for each in self.readable):
            return True
        shown = path.is_absolute() and any(path.is_relative_to(each) for each in _SHOWN)
        return shown and not any(path.is_relative_to(each) for each in self._seen(self.hidden))

    def _seen(self, paths: Sequence[Path]) -> list[Path]:
        """Those of ``paths`` that would be seen, by every name that they have."""
        names = dict.fromkeys(name for path in paths for name in (path, path.resolve()))
        return [name for name in names if any(name.is_relative_to(each) for each in _PROGRAMS) and name.is_dir()]


def _programs() -> list[str]:
    words: list[str] = []
    for folder in _PROGRAMS:
        if Path(folder).is_dir():
            words += ["--ro-bind", folder, folder]
    for name in _USR_LINKS:
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    return words


def _etc() -> list[str]:
    etc = Path("/etc")
    found = [*(etc / name for name in _ETC), *(path for pattern in _ETC_VERSIONS for path in sorted(etc.glob(pattern)))]
    words = ["--perms", "0755", "--dir", "/etc"]
    for path in found:
        if path.exists():
            words += ["--ro-bind", str(path), str(path)]
    return words


def _above(path: Path) -> list[str]:
    """The folders above ``path``: everybody may pass them inside, whatever they are outside."""
    above = [each for each in reversed(path.parents) if str(each) != "/" and not each.is_relative_to("/usr")]
    return [word for each in above for word in ("--perms", "0755", "--dir", str(each))]


class Running(NamedTuple):
    """A started script: the process whose end is its end, and what is asked again and again until then.

    ``checks`` raise `LimitError`.
    """

    process: "subprocess.Popen[bytes]"
    checks: Sequence[Callable[[], None]] = ()


class Confinement(Protocol):
    """How a `servers.local.LocalShell` starts its scripts."""

    #: Processes that scripts had left running when they ended; all of them were ended.
    left: int
    #: Whether no process can outlive its script.
    is_closed: ClassVar[bool]

    def start(self, script: Script, key: str, *, strict: bool) -> contextlib.AbstractContextManager[Running]:
        """Start ``script``; every process of it is known by ``key``. Raises `IsolationError`."""


@dataclass
class Sandboxed:
    """Scripts in sandboxes: what one leaves running has ended before another one starts."""

    sandbox: Sandbox
    limits: Limits = UNLIMITED
    check: Callable[[], None] = lambda: None
    left: int = 0
    is_closed: ClassVar[bool] = True

    @contextlib.contextmanager
    def start(self, script: Script, key: str, *, strict: bool) -> Iterator[Running]:
        """As `Confinement.start`."""
        box = self.sandbox
        places = {"PATH": box.search_path, "HOME": box.home, "TMPDIR": "/tmp"}  # noqa: S108 (inside)
        environment = places | _of_this_place() | dict(script.env)
        with contextlib.ExitStack() as stack:
            gate = _Gate(*_pipe(stack), *_pipe(stack))
            start = _start_text(script, "/run/script", environment | {RUN_MARKER: key}, self.limits, strict=strict)
            wait = _WAIT if box.network == Network.OWN else ""
            files = {
                "/run/start": gate.filled(f"{wait}exec {{waits}}<&-\n") + start + gate.filled(_COUNT),
                "/run/script": script.text + "\n",
                "/etc/passwd": _users(box),
                "/etc/group": _groups(box),
                "/etc/resolv.conf": _resolvers(box),
            }
            command = [*box.handover, "/bin/bash", "/run/start"]
            inside = stack.enter_context(_begun(stack, box, files, command, key, gate))
            usage = _Usage(inside.process.pid, self.limits)
            try:
                yield Running(inside.process, (usage, self.check))
            finally:
                inside.wait()
            with contextlib.suppress(ValueError):
                self.left += int(gate.heard(0))


@dataclass
class AsUser:
    """Scripts that see this machine, run by another ``user``, for which it takes root, or by this one."""

    user: User | None = None
    limits: Limits = UNLIMITED
    check: Callable[[], None] = lambda: None
    left: int = 0
    is_closed: ClassVar[bool] = False

    @contextlib.contextmanager
    def start(self, script: Script, key: str, *, strict: bool) -> Iterator[Running]:
        """As `Confinement.start`."""
        names = ("PATH", "HOME", "JAVA_HOME")
        inherited = {name: os.environ[name] for name in names if name in os.environ}
        environment = inherited | _of_this_place() | dict(script.env) | {RUN_MARKER: key}
        as_whom = {"user": self.user.uid, "group": self.user.gid, "extra_groups": []} if self.user else {}
        with contextlib.ExitStack() as stack:
            text = _in_memory(stack, script.text + "\n")
            start = _start_text(script, f"/dev/fd/{text}", environment, self._bounds, strict=strict)
            begin = _in_memory(stack, f"{start}exit $code\n")
            process = stack.enter_context(
                opened(
                    ["/bin/bash", f"/dev/fd/{begin}"],
                    {"PATH": "/usr/bin:/bin", RUN_MARKER: key},
                    pass_fds=(text, begin),
                    **as_whom,
                )
            )
            usage = _Usage(process.pid, self._bounds)
            yield Running(process, (usage, self.check))

    @property
    def _bounds(self) -> Limits:
        """The limits; without the number of processes, where everything of this user counts."""
        return self.limits if self.user else self.limits._replace(processes=0)


def _of_this_place() -> dict[str, str]:
    """The language and the time zone of this process: a script has them, too."""
    return {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}


def _start_text(script: Script, file: str, environment: Mapping[str, str], limits: Limits, *, strict: bool) -> str:
    """The text for bash that runs the script in ``file``, and knows its status as ``$code``.

    The variables are set here, in the sandbox, by a process without rights: a program that would be led by one of them,
    as by LD_PRELOAD, is never one that makes the sandbox.
    """
    exports = [f"export {name}={quote(value)}" for name, value in environment.items() if _VARIABLE.fullmatch(name)]
    bounds = {"d": limits.memory >> 10, "f": limits.file_size >> 10, "u": limits.processes}
    options = "-e -o pipefail " if strict else ""
    return "\n".join(
        [
            *(f"ulimit -{letter} {bound}" for letter, bound in bounds.items() if bound),
            *(["cd -- " + quote(script.folder) + " || exit"] if script.folder else []),
            "exec {said}>&2 2>/dev/null",  # bash would say there how the script was killed
            *exports,
            "umask 022",
            f"/bin/bash {options}{quote(file)} 2>&$said {{said}}>&-",
            "code=$?\n",
        ]
    )


class _Inside(NamedTuple):
    """A running sandbox: bwrap, and the first process inside."""

    process: "subprocess.Popen[bytes]"
    first: int | None

    def wait(self) -> None:
        """Return when every process inside has ended: the first one is the last to go."""
        if self.first is not None:
            select.select([self.first], [], [], _PATIENCE)


@contextlib.contextmanager
def _begun(
    stack: contextlib.ExitStack, box: Sandbox, files: Mapping[str, str], command: Sequence[str], key: str, gate: "_Gate"
) -> Iterator[_Inside]:
    """Run ``command`` in a sandbox that has ``files``; its network is there before it begins."""
    told, tells = _pipe(stack)
    descriptors = {path: _in_memory(stack, text) for path, text in files.items()}
    options = [*box.arguments(descriptors), "--info-fd", str(tells.number)]
    arguments = _in_memory(stack, "".join(f"{word}\0" for word in options))
    with opened(
        [shutil.which("bwrap") or "bwrap", "--args", str(arguments), "--", *command],
        {"PATH": "/usr/bin:/bin", RUN_MARKER: key},
        pass_fds=(*descriptors.values(), arguments, tells.number, gate.says.number, gate.waits.number),
    ) as process:
        for descriptor in (tells, gate.says, gate.waits):
            descriptor.close()
        first = _first_process(process, told.number)
        try:
            pidfd = os.pidfd_open(first)
        except ProcessLookupError:
            yield _Inside(process, None)
            return
        stack.callback(os.close, pidfd)
        if box.network == Network.OWN:
            # bwrap sets the loopback up: a forwarder that came in between would fail it.
            if not gate.heard(_PATIENCE):
                raise _not_made(process)
            stack.enter_context(_forwarded(box, first, key))
            with contextlib.suppress(BrokenPipeError):  # it was killed meanwhile: its status says so
                os.write(gate.go.number, b"x")
        yield _Inside(process, pidfd)


def _first_process(process: "subprocess.Popen[bytes]", told: int) -> int:
    """The number of the first process inside, as bwrap tells it."""
    text = b""
    until = time.monotonic() + _PATIENCE
    while select.select([told], [], [], max(until - time.monotonic(), 0))[0]:
        if not (piece := os.read(told, 4096)):
            break
        text += piece
    try:
        return int(json.loads(text)["child-pid"])
    except (ValueError, KeyError) as error:
        raise _not_made(process) from error


def _not_made(process: "subprocess.Popen[bytes]") -> IsolationError:
    """End what should have become a sandbox; gives the error, with what it said."""
    process.kill()
    said = process.stderr.read(2000).decode(errors="replace") if process.stderr else ""
    return IsolationError(_("The sandbox could not be made"), said.strip())


@contextlib.contextmanager
def _forwarded(box: Sandbox, first: int, key: str) -> Iterator[None]:
    """A way out of the network namespace of the process ``first``, but none to the loopback of this machine."""
    with contextlib.ExitStack() as stack:
        network = os.open(f"/proc/{first}/ns/net", os.O_RDONLY)
        stack.callback(os.close, network)
        owner = fcntl.ioctl(network, _NS_GET_USERNS)
        stack.callback(os.close, owner)
        ends, alive = _pipe(stack)  # it is closed when this process ends, however that is, and so ends the forwarder
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deployer-network-")))
        ready, words = folder / "ready", stack.enter_context((folder / "words").open("w+b"))
        process = subprocess.Popen(
            _forwarder(box, network, owner, ends.number, ready),
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", RUN_MARKER: key},
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            pass_fds=(network, owner, ends.number),
            start_new_session=True,
        )
        stack.callback(process.wait)
        stack.callback(alive.close)
        stack.callback(process.terminate)
        ends.close()
        until = time.monotonic() + _PATIENCE
        while not (ready.exists() and ready.stat().st_size):
            if process.poll() is not None or time.monotonic() > until:
                words.seek(0)
                said = words.read(2000).decode(errors="replace").strip()
                raise IsolationError(_("The network of the sandbox could not be made"), f"{box.forwarder}: {said}")
            time.sleep(0.001)
        yield


def _forwarder(box: Sandbox, network: int, owner: int, ends: int, ready: Path) -> list[str]:
    """The command of the forwarder: it ends when the other side of ``ends`` is closed."""
    namespace, users = f"/proc/self/fd/{network}", f"/proc/self/fd/{owner}"
    if box.forwarder == "slirp4netns":
        owned = [] if box.user else [f"--userns-path={users}"]
        fixed = ("--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--netns-type=path")
        command = ["slirp4netns", *fixed, *owned, "--ready-fd=3", f"--exit-fd={ends}", namespace, "tap0"]
        return ["/bin/bash", "-c", 'exec "$@" 3>"$0"', str(ready), *command]
    owned = ["--netns-only", "--runas", "0"] if box.user else ["--userns", users]
    closed = ("--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none")
    answers = ("--dns-forward", FORWARDERS["pasta"])
    command = ["pasta", "-f", "-q", "--config-net", *closed, *answers, *owned, "--netns", namespace]
    return ["/bin/bash", "-c", _UNTIL_CLOSED, "sh", str(ends), *command, "--pid", str(ready)]


#: Runs a command until a descriptor is at its end.
_UNTIL_CLOSED = """\
end=$1; shift
"$@" & command=$!
{ read -r -u "$end" _; kill $command; } & watch=$!
trap 'kill $command' TERM
wait $command; kill $watch
"""


class _Usage:
    """Looks every second at what a script takes on the whole. Raises `LimitError`."""

    def __init__(self, root: int, limits: Limits) -> None:
        self._root, self._limits = root, limits
        self._next = time.monotonic() + 1

    def __call__(self) -> None:
        limits = self._limits
        if time.monotonic() < self._next or not (limits.memory or limits.processes):
            return
        pids = processes_below(self._root)
        memory, threads = map(sum, zip(*[_taken(pid) for pid in pids], strict=True)) if pids else (0, 0)
        self._next = time.monotonic() + 1
        if limits.memory and memory > limits.memory:
            raise LimitError("memory", _("it took more memory than it may, and was ended"))
        if limits.processes and threads >= limits.processes:
            raise LimitError("processes", _("it had more processes than it may, and was ended"))


def _taken(pid: int) -> tuple[int, int]:
    """The bytes that a process has to itself, and its threads."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:  # it has ended
        return 0, 0
    numbers = {name: int(value) for name, value in re.findall(r"^(RssAnon|RssShmem|Threads):\s+(\d+)", text, re.M)}
    return (numbers.get("RssAnon", 0) + numbers.get("RssShmem", 0)) << 10, numbers.get("Threads", 0)


def _pipe(stack: contextlib.ExitStack) -> tuple[_End, _End]:
    reads, writes = map(_End, os.pipe())
    stack.callback(reads.close)
    stack.callback(writes.close)
    return reads, writes


def _in_memory(stack: contextlib.ExitStack, text: str) -> int:
    """The descriptor of a file that has ``text`` and no name."""
    descriptor = os.memfd_create("deployer", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@contextlib.contextmanager
def opened(
    command: Sequence[str], environment: Mapping[str, str], **options: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a session of its own that adopts the orphans below it; its pipes are closed in the end."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        umask=0o022,
        preexec_fn=begin_build,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def _users(box: Sandbox) -> str:
    """/etc/passwd inside: nobody of this machine but the user at hand."""
    uid, gid = box.user or (os.getuid(), os.getgid())
    rows = {0: "root:x:0:0:root:/:/usr/sbin/nologin\n"} | {uid: f"build:x:{uid}:{gid}:build:{box.home}:/bin/bash\n"}
    return "".join(rows.values())


def _groups(box: Sandbox) -> str:
    gid = box.user.gid if box.user else os.getgid()
    return "".join(({0: "root:x:0:\n"} | {gid: f"build:x:{gid}:\n"}).values())


def _resolvers(box: Sandbox) -> str:
    """/etc/resolv.conf inside. A name server on this machine's loopback is asked by the forwarder."""
    try:
        text = Path("/etc/resolv.conf").read_text(errors="replace")
    except OSError:
        return ""
    servers = re.findall(r"^[ \t]*+nameserver[ \t]++(\S+)", text, re.M)
    if box.network != Network.OWN or not all(name.startswith("127.") or name == "::1" for name in servers):
        return text
    others = "".join(line for line in text.splitlines(keepends=True) if not re.match(r"\s*nameserver\b", line))
    return f"nameserver {FORWARDERS[box.forwarder]}\n{others}"
