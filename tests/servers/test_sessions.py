"""Servers that open few sessions at once, or none: MaxSessions."""

import threading
from collections.abc import Callable

import pytest

from servers.connection import try_connection
from servers.errors import NoSessionError, ScriptTimeoutError, StoppedError
from servers.shell import Script
from servers.ssh.shell import connect
from servers.supervised.run import SupervisedRun
from tests.factories import make_server
from tests.parts.programs import PATIENCE, processes_running
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db(transaction=True)

MakeSshd = Callable[..., OpenSSHServer]


@pytest.fixture
def sshd(make_sshd: MakeSshd) -> OpenSSHServer:
    return make_sshd("MaxSessions 1")


def test_commands_one_after_the_other_need_one_session_and_one_link(sshd: OpenSSHServer) -> None:
    with connect(make_server(sshd)) as shell:
        assert [shell.capture(f"echo {number}").stdout for number in range(50)] == [f"{n}\n" for n in range(50)]
    assert sshd.log.count("Accepted publickey") == 1


def test_a_script_is_ended_although_the_session_of_its_follower_is_the_only_one(sshd: OpenSSHServer) -> None:
    stop = threading.Event()
    with connect(make_server(sshd)) as shell:
        run = SupervisedRun(shell)
        with pytest.raises(StoppedError):
            run.run(Script("echo up; sleep 987654"), lambda *_output: stop.set(), timeout=PATIENCE, stop=stop)
        assert not processes_running("sleep 987654")
        run = SupervisedRun(shell)
        with pytest.raises(ScriptTimeoutError):
            run.run(Script("sleep 987653"), lambda *_output: None, timeout=1, stop=threading.Event())
        assert not processes_running("sleep 987653")


def test_a_short_script_that_takes_too_long_keeps_nobody_from_the_next(sshd: OpenSSHServer) -> None:
    said: list[str] = []
    with connect(make_server(sshd), on_notice=said.append) as shell:
        said.clear()  # its host key was new
        with pytest.raises(ScriptTimeoutError):
            shell.capture("sleep 987652", timeout=0.5)
        assert shell.capture("echo fine").stdout == "fine\n"
    assert not said


def test_a_server_that_opens_no_session_is_told_with_what_to_do(make_sshd: MakeSshd) -> None:
    server = make_server(make_sshd("MaxSessions 0"))
    report = try_connection(server)
    assert not report.ok
    assert "opens no session. Set MaxSessions in its sshd_config" in str(report)
    assert "lost" not in str(report)
    with connect(server) as shell, pytest.raises(NoSessionError):
        shell.capture("true")
