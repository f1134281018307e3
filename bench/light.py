"""Many light SSH servers: they answer like sshd, in a few processes, and run commands under the machine's real ``sh``.

They are those of the playground: a login and a home folder each, and a list of processes for all of one process.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from bench.world import LOOPBACK, MACHINE
from deployer.playground import servers as playground
from tests.factories import make_credential, make_server
from tests.parts.programs import stop_process, wait_until

#: Servers of one process: Python answers for them one at a time, and each looks through the processes of all of them.
EACH = 40
#: Ports that the kernel gives to nobody who does not ask for them.
PORTS = range(10_000, 32_000)


class LightServers:
    """``size`` servers that listen; ``servers`` are their rows, the keys pinned, neighbours in different processes.

    ``words`` before a command start it as each of the processes is to be started.
    """

    def __init__(self, size: int, script: str, words: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="deployer-bench-light-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        login = asyncssh.generate_private_key("ssh-ed25519").export_private_key()
        credential = make_credential(
            username=playground.username(), kind="ssh_key", private_key=login.decode(), hosts=LOOPBACK
        )
        ports = random.sample(_free(PORTS), size)
        keys: dict[int, str] = {}
        for first in range(0, size, EACH):
            keys |= self._start(self.folder / f"{first}", ports[first : first + EACH], login, script, words)
        self.servers = [
            make_server(name=_name(port), host="127.0.0.1", port=port, credential=credential, host_key=keys[port])
            for port in sorted(ports)
        ]

    def _start(self, folder: Path, ports: list[int], login: bytes, script: str, words: Sequence[str]) -> dict[int, str]:
        """Start one process, and give the host keys of its servers, by their ports."""
        for port in ports:
            home = folder / "servers" / _name(port)
            home.mkdir(parents=True)
            (home / "restart.sh").write_text(script)
        keys = folder / "keys"
        keys.mkdir(mode=0o700)
        (keys / "id_ed25519").write_bytes(login)
        (folder / "machines").write_text("".join(f"{_name(port)}:{port}:0\n" for port in ports))
        command = [*words, *MACHINE, sys.executable, playground.__file__, folder]
        process = subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self._processes.append(process)
        wait_until(lambda: (folder / "ready").exists() or process.poll() is not None, "the light servers")
        found = {}
        for port in ports:
            (folder / "servers" / _name(port) / "bin" / "grep").unlink()  # it is to be the machine's own
            key = asyncssh.read_private_key(keys / f"host-{_name(port)}").export_public_key().decode()
            found[port] = " ".join(key.split()[:2])
        return found

    def close(self) -> None:
        """Stop them, and what was started on them."""
        for process in self._processes:
            stop_process(process, signal.SIGKILL)  # all that is in its list of processes ends with it
        shutil.rmtree(self.folder, ignore_errors=True)


def _name(port: int) -> str:
    return f"light-{port}"


def _free(ports: range) -> list[int]:
    """Those of ``ports`` that nobody of this machine listens on."""
    taken = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            taken.add(int(line.split()[1].rpartition(":")[2], 16))
    return [port for port in ports if port not in taken]
