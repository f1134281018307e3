"""Finding the programs that the tests need, free ports, and stopping what was started."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

#: The project's folder.
HOUSE = Path(__file__).resolve().parents[2]


def program(name: str, package: str, *places: str) -> str:
    """The path of ``name``; where it is missing, fail with the command that installs it."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if path is None:
        raise RuntimeError(f"The tests need {name}: apt-get install {package}")
    return path


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(true: Callable[[], object], what: str, timeout: float = 20) -> None:
    """Return when ``true()`` is; after ``timeout`` seconds fail, naming what was waited for."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} seconds for {what}")
        time.sleep(0.02)


def answers(port: int) -> bool:
    """Whether somebody listens on that port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stop_process(process: subprocess.Popen, number: signal.Signals = signal.SIGTERM, timeout: float = 10) -> int:
    """Stop a process that we started, kindly and then not; gives its exit status."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def processes_with(marker: str) -> list[int]:
    """The processes whose environment holds ``marker`` (``NAME=value``), however they were detached."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it ended, or it is not ours to read
            continue
        if marker.encode() in environment and state != "Z":
            found.append(int(folder.name))
    return found


def kill_all(pids: list[int]) -> None:
    """Kill these processes; one that has ended meanwhile is fine."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
