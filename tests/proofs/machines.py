"""Servers with processes of their own: a namespace around an SSH server, and a Debian that systemd has booted."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from servers.models import Server
from tests.factories import make_credential, make_server
from tests.parts.programs import answers, free_port, kill_all, program, stop_process, wait_until
from tests.parts.sshd import CONFIG, OpenSSHServer
from tests.proofs.parts import CannotRunError, debian, find, need_namespaces

#: In front of a server's sshd: nobody outside is seen, and nobody inside outlives it.
NAMESPACE = ("unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc")
#: For anybody but root, on top.
OF_A_USER = ("--user", "--map-current-user")
#: What podman needs of its own on top: run folders, locks, and control groups of one kind.
FOR_CONTAINERS = """\
for folder in /run /dev/shm; do mount -t tmpfs tmpfs $folder; done
mkdir /run/sshd
umount --lazy --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
exec "$@"
"""
BOOT = (
    *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off"),
    *("--capability=all", "--private-users=no", "--read-only", "--volatile=overlay"),
)


@dataclass(frozen=True)
class Process:
    """A process as its server sees it; ``inner`` is the pid by which it knows itself, in a container another one."""

    pid: int
    parent: int
    start: int
    command: str
    exe: str
    inner: int

    @property
    def key(self) -> tuple[int, int]:
        """The same for two if they are one process."""
        return self.pid, self.start


class Machine:
    """A server whose first process is ``init``, a pid of ours.

    ``home`` is the login's home there; what lies in ``folder`` is there under the same name.
    """

    init: int
    home: Path
    folder: Path

    def make_server(self) -> Server:
        """Its row in the database."""
        raise NotImplementedError

    def close(self) -> None:
        """End all of its processes, and leave no file behind."""
        raise NotImplementedError

    def processes(self) -> dict[int, Process]:
        """Everything that runs there, by pid, as ps would show it."""
        depth = len(_status(self.init, "NSpid")) - 1
        parents = {int(path.name): _parent(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
        below = {self.init}
        while more := {pid for pid, parent in parents.items() if parent in below} - below:
            below |= more
        found = (_process(pid, depth) for pid in below)
        return {process.pid: process for process in found if process is not None}


def _status(pid: int, name: str) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    return next((line.split()[1:] for line in lines if line.startswith(f"{name}:")), [])


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(_status(pid, "PPid")[0])
    return 0


def _process(pid: int, depth: int) -> Process | None:
    """That process as it is seen ``depth`` namespaces below ours; None if it has ended, or cannot be seen there."""
    with contextlib.suppress(OSError):
        folder = Path(f"/proc/{pid}")
        pids = _status(pid, "NSpid")
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        if fields[0] in "ZX" or len(pids) <= depth:
            return None
        parents = _status(int(fields[1]), "NSpid")
        words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        return Process(
            pid=int(pids[depth]),
            parent=int(parents[depth]) if len(parents) > depth else 0,
            start=int(fields[19]),
            command=b" ".join(words).decode(errors="replace").strip(),
            exe=str((folder / "exe").readlink()),
            inner=int(pids[-1]),
        )
    return None


def _child(pid: int) -> int:
    """The only child of that process, once it has one."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: path.exists() and path.read_text().split(), f"the child of process {pid}")
    return int(path.read_text().split()[0])


class Namespace(Machine):
    """An SSH server in a namespace of processes; with ``containers`` podman runs there too."""

    def __init__(self, containers: bool = False) -> None:
        if containers:
            debian()  # what they run, and only root's
        namespace = (*NAMESPACE, *OF_A_USER) if os.getuid() else NAMESPACE
        need_namespaces(namespace)
        prepared = ("sh", "-c", FOR_CONTAINERS, "sh") if containers else ()
        self.sshd = OpenSSHServer(wrapper=(*namespace, *prepared))
        self.home = self.sshd.home
        (self.home / "bin").mkdir()
        self.folder = self.sshd.folder
        self.folder.chmod(0o755)  # services run as others, too
        self.init = _child(self.sshd.pid)

    def make_server(self, username: str = "") -> Server:
        return make_server(self.sshd)

    def close(self) -> None:
        self.sshd.close()


class Booted(Machine):
    """A Debian that systemd has booted."""

    def __init__(self) -> None:
        tree, _nspawn = debian(), find("systemd-nspawn")
        self.home = Path("/root")
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="deployer-booted-"))
        self.folder.chmod(0o755)
        self.private_key = self._new_key("login_key")
        self._new_key("host_key")
        shutil.copy(self.folder / "login_key.pub", self.folder / "authorized_keys")
        config = CONFIG.format(port=self.port, folder=self.folder, home=self.home, marker="", extra="UsePAM yes")
        (self.folder / "sshd_config").write_text(config)
        self._groups = _make_groups()
        enter = "".join(f"echo $$ >{group}/cgroup.procs\n" for group in self._groups)
        binds = (f"--bind={self.folder}", f"--bind-ro={self.folder}:/machine", *self.binds())
        self._process = subprocess.Popen(
            ["sh", "-c", f'{enter}exec "$@"', "sh", *BOOT, *binds, "-D", str(tree)],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "console").open("wb"),
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: answers(self.port) or self._process.poll() is not None, "the machine to boot")
            if self._process.poll() is not None:
                console = (self.folder / "console").read_text(errors="replace").strip()
                raise CannotRunError(f"systemd does not boot here: {console[-300:]}")
            self.init = _child(self._process.pid)
        except BaseException:
            self.close()
            raise

    def binds(self) -> list[str]:
        """Further options of nspawn: what else of this machine is there."""
        return []

    def _new_key(self, name: str) -> str:
        path = self.folder / name
        keygen = program("ssh-keygen", "openssh-client")
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
        return path.read_text()

    def make_server(self, username: str = "root") -> Server:
        credential = make_credential(username=username, kind="ssh_key", private_key=self.private_key)
        return make_server(host="127.0.0.1", port=self.port, credential=credential)

    def close(self) -> None:
        kill_all([pid for group in self._groups for pid in _members(group)])
        stop_process(self._process, signal.SIGKILL)
        for group in self._groups:
            for folder, _folders, _files in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):  # the kernel removes what has just become empty in its own time
                    Path(folder).rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)


def _members(group: Path) -> list[int]:
    """The processes of a control group and of those below it."""
    return [int(pid) for path in group.rglob("cgroup.procs") for pid in path.read_text().split()]


def _make_groups() -> list[Path]:
    """Control groups for a machine alone, in each hierarchy that systemd uses here: two machines share no unit."""
    name = f"deployer-proofs-{secrets.token_hex(4)}"
    groups = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        roots = {"": ("unified", ""), "name=systemd": ("systemd",)}.get(controllers, ())
        for root in (Path("/sys/fs/cgroup") / root for root in roots):
            if (root / "cgroup.procs").exists():
                groups.append(root / path.lstrip("/") / name)
                groups[-1].mkdir()
                break
    return groups
