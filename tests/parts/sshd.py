"""A real OpenSSH server on a loopback port, with keys, configuration and home folder of its own."""

import getpass
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.parts.programs import answers, free_port, kill_all, processes_with, program, stop_process, wait_until

CONFIG = """\
{extra}
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication yes
KbdInteractiveAuthentication no
AllowTcpForwarding yes
MaxStartups 100
MaxSessions 100
UseDNS no
PrintMotd no
LogLevel VERBOSE
SetEnv HOME={home} PATH={home}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin {marker}
Subsystem sftp internal-sftp -d {home}
"""


def as_login_shell(shell: str) -> str:
    """The line of configuration that hands every command to ``shell``, as sshd does where it is the login's own."""
    return f'ForceCommand exec {shell} -c "$SSH_ORIGINAL_COMMAND"'


class OpenSSHServer:
    """A running sshd that lets the current user in with ``private_key``.

    ``host``, ``port``, ``username``; ``private_key`` (PEM text), ``host_key`` (``ssh-ed25519 AAAA...``);
    ``folder`` holds everything, ``home`` is ``$HOME`` and the SFTP start folder of its sessions (a place for
    deploy paths and scripts), its ``bin`` is looked into first for programs; ``log`` is what sshd wrote.
    ``extra`` is more lines of configuration, which win over the others; ``wrapper`` is a command that runs sshd.
    """

    host = "127.0.0.1"

    def __init__(self, extra: str = "", wrapper: Sequence[str] = ()) -> None:
        self._sshd = program("sshd", "openssh-server", "/usr/sbin", "/usr/local/sbin")
        self.username = getpass.getuser()
        self.folder = Path(tempfile.mkdtemp(prefix="deployer-sshd-"))
        self.home = self.folder / "home"
        self.home.mkdir()
        self.marker = f"DEPLOYER_TEST_SSHD={secrets.token_hex(8)}"
        self.private_key = self._new_key("login_key")
        self._new_key("host_key")
        shutil.copy(self.folder / "login_key.pub", self.folder / "authorized_keys")
        self.port = free_port()
        self._extra = extra
        self._wrapper = wrapper
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def _new_key(self, name: str) -> str:
        path = self.folder / name
        path.unlink(missing_ok=True)
        keygen = program("ssh-keygen", "openssh-client")
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
        return path.read_text()

    @property
    def host_key(self) -> str:
        """Its public host key, as a server's ``host_key`` is pinned."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def pid(self) -> int:
        """The process that was started: sshd, or the wrapper around it."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Listen (again) on the same port."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation asks for it
        config = self.folder / "sshd_config"
        config.write_text(
            CONFIG.format(port=self.port, folder=self.folder, home=self.home, marker=self.marker, extra=self._extra)
        )
        self._process = subprocess.Popen(
            [*self._wrapper, self._sshd, "-D", "-f", config, "-E", self.folder / "log"], stdin=subprocess.DEVNULL
        )
        process = self._process
        wait_until(lambda: answers(self.port) or process.poll() is not None, "sshd to listen")
        if process.poll() is not None:
            raise RuntimeError(f"sshd did not start: {self.log}")

    def stop(self) -> None:
        """Stop listening and cut every connection; programs that sessions have detached live on."""
        links = self.sessions()
        if self._process is not None:
            stop_process(self._process, signal.SIGKILL if self._wrapper else signal.SIGTERM)  # a wrapper may not listen
        kill_all(links)

    def restart(self) -> None:
        """Stop, then listen again."""
        self.stop()
        self.start()

    def drop_links(self) -> None:
        """Cut every connection and go on listening."""
        kill_all(self.sessions())

    def change_host_key(self) -> None:
        """Become another machine on the same port."""
        self.stop()
        self._new_key("host_key")
        self.start()

    def sessions(self) -> list[int]:
        """The sshd processes that serve the open connections."""
        if self._process is None:
            return []
        children: dict[int, list[int]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            if "(sshd" in stat:
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(folder.name))
        found, pending = [], [self._process.pid]
        while pending:
            pending = [child for parent in pending for child in children.get(parent, [])]
            found += pending
        return found

    def processes(self) -> list[int]:
        """Every program that a session has started and that still runs, however it was detached."""
        return processes_with(self.marker)

    def close(self) -> None:
        """Stop for good and leave nothing behind, neither programs nor files."""
        self.stop()
        kill_all(self.processes())
        shutil.rmtree(self.folder, ignore_errors=True)
