"""Promises of the shell of this machine, in which builds run."""

import os
import threading

import pytest

from servers.errors import ScriptTimeoutError
from servers.local import LocalShell
from servers.shell import Script
from tests.parts.programs import PATIENCE, kill_all, processes_running


class Collected:
    """Takes the output of a script."""

    def __init__(self) -> None:
        self.size = 0

    def __call__(self, stream: str, data: bytes) -> None:
        self.size += len(data)


def test_without_room_a_script_waits_where_it_prints_and_that_time_is_not_its_own(tmp_path):
    room, output = threading.Event(), Collected()
    text = Script(f"head -c 3000000 /dev/zero; touch {tmp_path}/printed-all")
    threading.Timer(3, room.set).start()
    printed_all: list[bool] = []
    threading.Timer(2.5, lambda: printed_all.append((tmp_path / "printed-all").exists())).start()
    assert LocalShell().run(text, output, timeout=2, stop=threading.Event(), room=room) == 0
    assert printed_all == [False]
    assert output.size == 3_000_000


def test_a_script_that_prints_for_ever_is_ended_by_its_time_limit():
    with pytest.raises(ScriptTimeoutError):
        LocalShell().run(Script("exec yes endless"), Collected(), timeout=1, stop=threading.Event())


def test_what_a_daemon_prints_after_the_end_of_a_script_is_not_read_for_ever():
    program = f"yes {os.getpid()}"
    try:
        code = LocalShell().run(
            Script(f"{program} & exit 3"), Collected(), timeout=PATIENCE, stop=threading.Event(), strict=False
        )
    finally:
        kill_all(processes_running(program))
    assert code == 3
