"""Keeps a handful of programs running: prefixes what they print, restarts what dies, stops them all in order."""

import json
import os
import re
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO

from django.conf import settings
from django.utils.translation import gettext as _

from deployer.host.processes import start_program

COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
LONGEST_PAUSE = 30.0
#: Seconds of life after which a program is taken to have started well.
STARTED_WELL = 60.0
#: Seconds between two requests to stop at once: a worker takes two within a second for one.
ASK_AGAIN = 1.5
#: Seconds that a program has for stopping at once, before it is killed.
LAST_CHANCE = 10.0

#: By this variable, a program knows that a supervisor keeps it.
SUPERVISED = "DEPLOYER_SUPERVISOR"
#: Asks a worker to stop at once. SIGTERM comes from the supervisor and, where every process is asked, from others too:
#: so it never means more than the first time.
AT_ONCE = signal.SIGUSR2


class StartFailedError(Exception):
    """The program ``name``, which must be there first, did not come up. The message is a sentence for the operator."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Program:
    """What to run. ``answers`` says whether it is ready, for which it has ``ready_within`` seconds.

    It is asked to stop by ``stop_signal``; one that is not SIGTERM keeps it from hearing SIGTERM. A kind stop may take
    ``patience`` seconds; after ``ask_again`` seconds it is asked once more. Without ``patience`` it may take as long as
    it needs, and ``waiting`` is what is said in the meantime; ``hurry_signal`` asks it to stop at once. It runs while
    ``wanted`` says so, which is asked all the time.
    """

    name: str
    command: Sequence[str | Path]
    answers: Callable[[], bool] = lambda: True
    ready_within: float = 60
    patience: float | None = 15
    ask_again: float | None = None
    waiting: str = ""
    stop_signal: signal.Signals = signal.SIGTERM
    hurry_signal: signal.Signals = signal.SIGTERM
    sockets: Sequence[socket.socket] = ()
    wanted: Callable[[], bool] = lambda: True


@dataclass
class _Kept:
    """A program and the process that it is at the moment."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float | None = None
    pause: float = 1.0
    asked: float = 0.0
    sessions: list[int] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ask_to_stop(self, by: signal.Signals | None = None) -> None:
        self.asked = time.monotonic()
        if self.process is not None and self.runs:
            self.process.send_signal(by or self.program.stop_signal)

    def kill(self, mark: str) -> None:
        """End it and every process of its sessions."""
        for pid in _members(self.sessions, mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Supervisor:
    """Runs ``stages`` of programs: started in order, each when the one before answers, stopped in reverse order.

    Every program is a session of its own, so that Ctrl-C reaches the supervisor alone; and is asked to stop by
    the kernel when the supervisor is killed. ``environment`` is what they all get.

    While a stage stops, which may take long, those before it are kept running: it may need them. They may have been
    asked to stop by others, as by systemd, which asks every process of a unit at once.
    """

    def __init__(self, stages: Sequence[Sequence[Program]], environment: dict[str, str], output: IO[str]) -> None:
        self._stages = [[_Kept(program) for program in stage] for stage in stages]
        self._mark = f"{SUPERVISED}={secrets.token_hex(8)}"
        self._environment = environment | dict([self._mark.split("=")])
        self._output = output
        self._selector = selectors.DefaultSelector()
        self._width = max(len(program.name) for stage in stages for program in stage)
        self._stops = 0

    def run(self, when_ready: Callable[[], None]) -> None:
        """Run until a signal asks for the end; then stop everything and return. Raises `StartFailedError`."""
        with self.running():
            if not self._stops:
                when_ready()
            self.attend()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Everything is started before, and stopped after. Raises `StartFailedError`."""
        with self._signals():
            try:
                for stage in self._stages:
                    self._start(stage)
                yield
            finally:
                self._stop()

    def attend(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Keep everything running; gives True when ``until`` says so, and False once a signal asks for the end."""
        while not self._stops:
            if until():
                return True
            self._turn(0.5)
            self._tend(self._stages)
        return False

    @property
    def pids(self) -> set[int]:
        """The processes that the programs are at the moment, and those that they were."""
        return {pid for stage in self._stages for kept in stage for pid in kept.sessions}

    def say(self, text: str) -> None:
        """Print a line of the supervisor's own."""
        self._print("deployer", text)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Count the requests to stop; each signal also ends the wait of `_turn` at once."""
        awake, wake = socket.socketpair()
        awake.setblocking(False)
        wake.setblocking(False)
        self._selector.register(awake, selectors.EVENT_READ, lambda: awake.recv(4096))
        before_fd = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        stopping = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._count) for number in stopping}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_args: None)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before_fd)
            self._selector.close()
            awake.close()
            wake.close()

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self._stops += 1

    def _start(self, stage: list[_Kept]) -> None:
        stage = [kept for kept in stage if kept.program.wanted()]
        for kept in stage:
            self._launch(kept)
        begun = time.monotonic()
        for kept in stage:
            program = kept.program
            while not (self._stops or program.answers()):
                if not kept.runs or time.monotonic() - begun > program.ready_within:
                    self._turn(0.2)  # what it printed says why
                    told = _("%(name)s did not start: see above.") % {"name": program.name}
                    raise StartFailedError(told, program.name)
                self._turn(0.1)

    def _launch(self, kept: _Kept) -> None:
        kept.start_at = None
        kept.asked = 0.0
        kept.started = time.monotonic()
        kept.process = start_program(
            kept.program.command,
            self._environment,
            kept.program.stop_signal,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            pass_fds=[sock.fileno() for sock in kept.program.sockets],
        )
        kept.sessions.append(kept.process.pid)
        if kept.process.stdout is not None:
            self._watch(kept.program.name, kept.process.stdout)

    def _watch(self, name: str, pipe: IO[bytes]) -> None:
        os.set_blocking(pipe.fileno(), False)
        rest = b""

        def read() -> None:
            nonlocal rest
            data = pipe.read(65536)
            if data is None:
                return
            *lines, rest = (rest + data).split(b"\n")
            if not data or len(rest) > 65536:
                lines, rest = [*lines, *([rest] if rest else [])], b""
            for line in lines:
                self._print(name, line.decode(errors="replace").rstrip("\r"))
            if not data:
                self._selector.unregister(pipe)
                pipe.close()

        self._selector.register(pipe, selectors.EVENT_READ, read)

    def _turn(self, timeout: float) -> None:
        """Print what has arrived; wait at most ``timeout`` seconds for more."""
        for key, _events in self._selector.select(timeout):
            key.data()

    def _tend(self, stages: Sequence[Sequence[_Kept]]) -> None:
        """Start programs that are needed and do not run, stop those that are no longer needed."""
        now = time.monotonic()
        for kept in (kept for stage in stages for kept in stage):
            if not kept.program.wanted():
                self._let_go(kept, now)
            elif kept.start_at is not None:
                if now >= kept.start_at:
                    self._launch(kept)
            elif kept.process is None:
                self.say(_("Starting %(name)s.") % {"name": kept.program.name})
                self._launch(kept)
            elif not kept.runs:
                kept.pause = 1.0 if now - kept.started > STARTED_WELL else kept.pause
                kept.start_at = now + kept.pause
                self.say(
                    _("%(name)s %(ended)s; it starts again in %(pause)g s.")
                    % {"name": kept.program.name, "ended": _ended(kept.process.returncode), "pause": kept.pause}
                )
                kept.pause = min(kept.pause * 2, LONGEST_PAUSE)

    def _let_go(self, kept: _Kept, now: float) -> None:
        """One step on the way of a program that is not wanted: asked to stop, ended, forgotten."""
        if kept.runs and not kept.asked:
            kept.ask_to_stop()
        elif kept.runs and kept.program.patience is not None and now - kept.asked > kept.program.patience:
            kept.kill(self._mark)
        elif kept.process is not None and not kept.runs:
            kept.kill(self._mark)
            kept.process = None
            self.say(_("%(name)s is no longer needed: it has stopped.") % {"name": kept.program.name})
        if kept.process is None:
            kept.start_at, kept.pause = None, 1.0

    def _stop(self) -> None:
        stages = [[kept for kept in stage if kept.process is not None] for stage in self._stages]
        while stages:
            self._stop_stage(stages.pop(), stages)

    def _stop_stage(self, stage: list[_Kept], needed: Sequence[Sequence[_Kept]]) -> None:
        begun = time.monotonic()
        told = False
        hurried_at: float | None = None
        for kept in stage:
            kept.ask_to_stop()
        while running := [kept for kept in stage if kept.runs]:
            self._turn(0.1)
            now = time.monotonic()
            if self._stops > 1 and hurried_at is None:
                hurried_at = now
            if hurried_at is None:
                self._tend(needed)
            for kept in running:
                self._press(kept, now, begun, hurried_at)
            waiting = next((kept.program.waiting for kept in running if kept.program.waiting), "")
            if waiting and not told and now - begun > 2:
                self.say(waiting)
                told = True
        for kept in stage:
            kept.kill(self._mark)
        self._turn(0)

    def _press(self, kept: _Kept, now: float, begun: float, hurried_at: float | None) -> None:
        """Ask a program that is to stop once more where that is due, and end it when its time is up."""
        patience = kept.program.patience
        is_late = patience is not None and now - begun > patience
        if is_late or (hurried_at is not None and (self._stops > 2 or now - hurried_at > LAST_CHANCE)):
            kept.kill(self._mark)
            return
        again = kept.program.ask_again if hurried_at is None else ASK_AGAIN
        if again is not None and now - kept.asked > again:
            kept.ask_to_stop(None if hurried_at is None else kept.program.hurry_signal)

    def _print(self, name: str, text: str) -> None:
        if settings.DEPLOYER_LOG_FORMAT == "json":
            self._write(_as_json(name, text))
            return
        prefix = f"{name:<{self._width}} | "
        if self._output.isatty():
            names = ["deployer", *(kept.program.name for stage in self._stages for kept in stage)]
            prefix = f"\x1b[{COLOURS[names.index(name) % len(COLOURS)]}m{prefix}\x1b[0m"
        self._write(f"{prefix}{text}")

    def _write(self, line: str) -> None:
        try:
            print(line, file=self._output, flush=True)
        except OSError:  # nobody reads any more; the programs are kept running all the same
            self._output = Path(os.devnull).open("w")  # noqa: SIM115 (for the rest of this process's life)


def _as_json(name: str, text: str) -> str:
    """A line of a program as an object: what it wrote as one, with its name; anything else as a message."""
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        told = {"timestamp": datetime.now(UTC).isoformat(), "level": "INFO", "message": text}
    return json.dumps({"program": name} | told, ensure_ascii=False)


def _ended(status: int) -> str:
    if status < 0:
        return _("was killed by %(signal)s") % {"signal": signal.Signals(-status).name}
    return _("ended with status %(status)s") % {"status": status}


def _members(sessions: Sequence[int], mark: str) -> list[int]:
    """The processes of these sessions, by field 6 of /proc/PID/stat (proc(5)).

    Numbers are used again: only a process that has ``mark`` in its environment is one of ours, or one of this user
    whose environment is closed, as that of every process of deployer is.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            is_ours = int(fields[3]) in sessions and _carries(folder, mark)
        except OSError:  # it has ended by now, or belongs to somebody else
            continue
        if is_ours:
            found.append(int(folder.name))
    return found


def _carries(process: Path, mark: str) -> bool:
    try:
        return mark.encode() in (process / "environ").read_bytes().split(b"\0")
    except PermissionError:
        uids = re.search(r"^Uid:\s+(\d+)", (process / "status").read_text(errors="replace"), re.M)
        return uids is not None and int(uids[1]) == os.getuid()


def manage(*arguments: str) -> list[str]:
    """The command that runs `deployer` with ``arguments`` in a process of its own, whatever folder that starts in."""
    start = [str(settings.BASE_DIR / "manage.py")] if settings.IS_CHECKOUT else ["-P", "-m", "deployer"]
    return [sys.executable, *start, *arguments]
