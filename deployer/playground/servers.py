"""Three real SSH servers on loopback, as FOLDER/machines names them: ``python servers.py FOLDER [SANDBOX ...]``.

Each runs commands as the current user, in a home folder of its own below FOLDER, and lets in everybody who has
FOLDER/keys/id_ed25519 (made where it is not there, like the host keys). Prints "ready" and makes FOLDER/ready when all
of them listen. Asked to stop, it ends what was started on them too.

The servers are a process of their own, begun with the words of SANDBOX. What they can write, FOLDER/servers, is touched
by that process alone: a link that somebody has laid there leads out of nothing.
"""

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

PIECE = 256 * 1024
GREP = Path(__file__).with_name("grep.sh")


@dataclass(frozen=True)
class Machine:
    """One demo server: its home folder, the port of its SSH server and the port of its shop."""

    name: str
    ssh_port: int
    shop_port: int
    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "servers" / self.name

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every session on it."""
        return {
            "HOME": str(self.home),
            "PATH": f"{self.home / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "USER": username(),
            "LOGNAME": username(),
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "DEMO_FOLDER": str(self.folder),
            "DEMO_SERVER": f"{self.name} {self.home}",
            "SHOP_PORT": str(self.shop_port),
        }

    def furnish(self) -> None:
        """Make its home, with a ``grep`` that shows only this machine's own processes."""
        (self.home / "bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(GREP, self.home / "bin" / "grep")
        (self.home / "bin" / "grep").chmod(0o755)


def username() -> str:
    """The login's name; a user id without an entry in the password file has a name too."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user-{os.getuid()}"


class _Login(asyncssh.SSHServer):
    """Public keys only; forwards connections to this machine's loopback, as health checks use them."""

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return dest_host in {"127.0.0.1", "::1", "localhost"}


def _sftp(machine: Machine) -> Callable[[Any], asyncssh.SFTPServer]:
    class HomeSFTP(asyncssh.SFTPServer):
        """Relative paths start at the machine's home."""

        def map_path(self, path: bytes) -> bytes:
            return os.path.join(os.fsencode(machine.home), path)  # noqa: PTH118 (bytes)

    return HomeSFTP


def _runner(machine: Machine) -> Callable[[asyncssh.SSHServerProcess[bytes]], Any]:
    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await _run(process, machine)

    return run


async def _run(process: "asyncssh.SSHServerProcess[bytes]", machine: Machine) -> None:
    """Run one command. It ends when its own process does, even if another one still holds its output."""
    command = ["/bin/sh", "-c", process.command] if process.command else ["/bin/sh"]
    child = subprocess.Popen(
        command,
        cwd=machine.home,
        env=machine.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    assert child.stdin is not None  # noqa: S101 (all three are pipes)
    assert child.stdout is not None  # noqa: S101
    assert child.stderr is not None  # noqa: S101
    pipes = [child.stdin, child.stdout, child.stderr]
    for pipe in pipes:
        os.set_blocking(pipe.fileno(), False)
    ended = asyncio.ensure_future(_end_of(child))
    feeder = asyncio.ensure_future(_feed(process, child))
    try:
        await asyncio.gather(
            _pump(child.stdout.fileno(), process.stdout, ended), _pump(child.stderr.fileno(), process.stderr, ended)
        )
        await ended
        if child.returncode < 0:
            process.exit_with_signal(signal.Signals(-child.returncode).name.removeprefix("SIG"))
        else:
            process.exit(child.returncode)
    except (asyncssh.Error, OSError):
        await ended  # the link is gone; the command is not ended for it
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
        for pipe in pipes:
            pipe.close()


async def _end_of(child: "subprocess.Popen[bytes]") -> None:
    handle = os.pidfd_open(child.pid)
    try:
        await _ready(handle, asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)
    finally:
        os.close(handle)
    child.wait()


async def _ready(handle: int, add: Callable[..., Any], remove: Callable[[int], Any]) -> None:
    future = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    add(handle, wake)
    try:
        await future
    finally:
        remove(handle)


async def _pump(source: int, target: "asyncssh.SSHWriter[bytes]", ended: "asyncio.Future[None]") -> None:
    """Send on what arrives, until end-of-file, or until the command has ended and nothing is left in the pipe."""
    loop = asyncio.get_running_loop()
    while True:
        over = ended.done()
        try:
            data = os.read(source, PIECE)
        except BlockingIOError:
            if over:
                return
            readable = asyncio.ensure_future(_ready(source, loop.add_reader, loop.remove_reader))
            await asyncio.wait({readable, ended}, return_when=asyncio.FIRST_COMPLETED)
            readable.cancel()
            await asyncio.gather(readable, return_exceptions=True)
            continue
        if not data:
            return
        target.write(data)
        await target.drain()


async def _feed(process: "asyncssh.SSHServerProcess[bytes]", child: "subprocess.Popen[bytes]") -> None:
    """Hand on standard input, and signals; a command that reads no more loses the rest."""
    loop = asyncio.get_running_loop()
    assert child.stdin is not None  # noqa: S101 (it is a pipe)
    pipe = child.stdin
    while True:
        try:
            data = await process.stdin.read(PIECE)
        except asyncssh.SignalReceived as request:
            number = getattr(signal, f"SIG{request.signal}", None)
            if number is not None and child.poll() is None:
                os.killpg(child.pid, number)
            continue
        except asyncssh.Error:
            data = b""
        if not data:
            pipe.close()
            return
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(pipe.fileno(), rest) :]
            except BlockingIOError:
                await _ready(pipe.fileno(), loop.add_writer, loop.remove_writer)
            except BrokenPipeError:
                break


def _key(path: Path) -> "asyncssh.SSHKey":
    """The private key in this file; made where there is none."""
    if not path.exists():
        path.touch(mode=0o600)
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    return asyncssh.read_private_key(path)


def _prepare(machines: list[Machine], folder: Path) -> None:
    """Make the keys, and the folders that a sandbox is given."""
    for name in ("keys", "repository", "servers"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    keys = folder / "keys"
    _key(keys / "id_ed25519").write_public_key(keys / "authorized_keys")
    for machine in machines:
        _key(keys / f"host-{machine.name}")


async def _serve(machines: list[Machine], folder: Path) -> None:
    keys = folder / "keys"
    for machine in machines:
        machine.furnish()
        await asyncssh.listen(
            "127.0.0.1",
            machine.ssh_port,
            server_factory=_Login,
            server_host_keys=[asyncssh.read_private_key(keys / f"host-{machine.name}")],
            authorized_client_keys=str(keys / "authorized_keys"),
            password_auth=False,
            kbdint_auth=False,
            process_factory=_runner(machine),
            sftp_factory=_sftp(machine),
            encoding=None,
            line_editor=False,
            allow_pty=False,
        )
    print("ready", flush=True)
    await asyncio.Event().wait()


def end_programs(folder: Path) -> None:
    """End every program that a server of ``folder`` has started and that lives on, as the shops do."""
    mark = os.fsencode(f"DEMO_FOLDER={folder}")
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 5
        while left := _with_mark(mark):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)


def _with_mark(mark: bytes) -> list[int]:
    """The processes that have ``mark`` in their environment: those of the servers' sessions."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # it has ended by now, or belongs to somebody else
            continue
    return found


def _keep(machines: list[Machine], folder: Path, sandbox: list[str]) -> int:
    """Run the servers until they end or a signal comes; gives their exit status."""
    (folder / "ready").unlink(missing_ok=True)  # of one that was killed
    _prepare(machines, folder)
    if not sandbox:
        print("not in a sandbox: what is deployed to these servers can read all that deployer can", flush=True)
    process = subprocess.Popen(
        [*sandbox, sys.executable, __file__, "--serve", str(folder)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 (it is a pipe)
    try:
        for line in process.stdout:
            if line == b"ready\n":
                (folder / "ready").touch()
            print(line.decode(errors="replace"), end="", flush=True)
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        (folder / "ready").unlink(missing_ok=True)
        process.terminate()
        end_programs(folder)
        process.wait()


def main() -> int:
    """Serve, or keep a process that serves, until a signal ends this one; gives the exit status."""
    serves = sys.argv[1] == "--serve"
    folder = Path(sys.argv[2 if serves else 1]).absolute()
    machines = []
    for word in (folder / "machines").read_text().split():
        name, ssh_port, shop_port = word.split(":")
        machines.append(Machine(name, int(ssh_port), int(shop_port), folder))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not serves:
        return _keep(machines, folder, sys.argv[2:])
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(machines, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
