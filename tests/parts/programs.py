"""Finding the programs that the tests need, free ports, waiting, and stopping what was started."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

#: The project's folder.
HOUSE = Path(__file__).resolve().parents[2]
#: Seconds for which a test waits for what must come. A busy machine may need them; else only a failure takes so long.
PATIENCE = 180.0


def program(name: str, package: str, *places: str) -> str:
    """The path of ``name``; where it is missing, fail with the command that installs it."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if path is None:
        raise RuntimeError(f"The tests need {name}: apt-get install {package}")
    return path


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on.

    It is none of those that the kernel gives to outgoing connections: it stays free until a server has started.
    """
    first, beyond = 10_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", first + secrets.randbelow(beyond - first)))
            return int(probe.getsockname()[1])


def wait_until(true: Callable[[], object], what: str) -> None:
    """Return when ``true()`` is; when our patience is at its end fail, naming what was waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        asked = time.monotonic()
        if true():
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE:g} seconds for {what}")
        time.sleep(max(0.02, time.monotonic() - asked))  # asking takes half of the time at most


def wait_for_end(thread: threading.Thread) -> None:
    """Return when ``thread`` has ended; what it did is then there to be looked at."""
    thread.join(PATIENCE)
    if thread.is_alive():
        raise AssertionError(f"waited {PATIENCE:g} seconds for {thread.name} to end")


def answers(port: int) -> bool:
    """Whether somebody listens on that port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def callers(listener: socket.socket) -> int:
    """How many have connected to a server that does not take its connections."""
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def stop_process(
    process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM, patience: float = PATIENCE
) -> int:
    """Stop a process that we started, kindly and then not; gives its exit status."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def processes_with(marker: str) -> list[int]:
    """The processes whose environment holds ``marker`` (``NAME=value``), however they were detached."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended, or it is not ours to read
            continue
        if marker.encode() in environment and not has_ended(int(folder.name)):
            found.append(int(folder.name))
    return found


def processes_in(sessions: set[int]) -> list[int]:
    """The processes of these sessions, by their leaders' pids; also those whose environment nobody else may read."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            session = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[3])
            if session in sessions and not has_ended(int(folder.name)):
                found.append(int(folder.name))
    return found


def children_of(pid: int) -> list[int]:
    """The processes that a process has started itself, as far as they run."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def processes_running(command: str) -> list[int]:
    """The processes whose command line is ``command``, whoever has started them."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if command_line(pid) == command and not has_ended(pid)]


def command_line(pid: int) -> str:
    """The command line of a process, its words with blanks between them; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def has_ended(pid: int) -> bool:
    """Whether that process runs no more; its parent may not have taken note of it yet."""
    return _state(Path(f"/proc/{pid}")) in "ZX"


def stands_still(pid: int) -> bool:
    """Whether each thread is stopped: one that was within a call of the kernel ends that first, and may get a lock."""
    return all(_state(task) in "TZX" for task in Path(f"/proc/{pid}/task").glob("*"))


def _state(folder: Path) -> str:
    """The state of a process or a thread, as proc(5) has it, by its folder; X once it is gone."""
    try:
        return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def kill_all(pids: list[int]) -> None:
    """Kill these processes and see them end; one that has ended meanwhile is fine."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_until(lambda: all(map(has_ended, pids)), f"the processes {pids} to end")
