"""`manage.py up` brings everything up, keeps it up, and leaves nothing behind."""

import re
import signal
from collections.abc import Callable

import pytest

from tests.parts.programs import PATIENCE, answers, command_line, kill_all, wait_until
from tests.parts.up import Up


def _kill_one(up: Up, what: str) -> None:
    kill_all([min(pid for pid in up.processes if what in command_line(pid))])


def test_one_command_brings_up_queue_workers_and_web_and_shows_the_first_login_once(up: Callable[..., Up]) -> None:
    site = up().wait_ready()
    assert site.get("/admin/login/") == 200
    assert re.search(r"password \w{20}$", site.log, re.MULTILINE)
    assert (site.folder / "queue.sock").stat().st_mode & 0o077 == 0
    assert site.stop(signal.SIGTERM) == 0
    again = up().wait_ready()
    assert "password" not in again.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_and_leaves_no_process(up: Callable[..., Up], number: signal.Signals) -> None:
    site = up().wait_ready()
    assert len(site.processes) >= 6  # up, queue, two workers, gunicorn and its processes
    assert site.stop(number) == 0
    site.wait_ended()
    assert not answers(site.port)


def test_what_dies_is_started_again_and_said(up: Callable[..., Up]) -> None:
    site = up("--workers", "1").wait_ready(1)
    before = site.queue.smembers("rq:workers")
    _kill_one(site, "rqworker")
    wait_until(lambda: site.queue.smembers("rq:workers") - before, "a new worker")
    _kill_one(site, "valkey-server")
    _kill_one(site, "gunicorn")
    missed = [f"{name} was killed by SIGKILL; it starts again in" for name in ("worker-1", "queue", "web")]
    wait_until(lambda: all(sentence in site.log for sentence in missed), "all three to be missed")
    wait_until(lambda: site.get("/admin/login/") == 200, "the site to answer again")
    assert site.stop(signal.SIGTERM) == 0
    site.wait_ended()


def test_a_second_copy_on_the_same_data_folder_is_refused(up: Callable[..., Up]) -> None:
    first = up().wait_ready()
    second = up()
    assert second.process.wait(PATIENCE) == 1
    assert f"(process {first.process.pid})" in second.log
    assert "stop it first" in second.log
    assert first.process.poll() is None


def test_a_port_that_is_taken_is_refused_before_anything_starts(up: Callable[..., Up], sshd) -> None:
    site = up("--bind", f"127.0.0.1:{sshd.port}")
    assert site.process.wait(PATIENCE) == 1
    assert f"Cannot listen on 127.0.0.1:{sshd.port}: Address already in use" in site.log
    assert "queue" not in site.log


def test_nothing_outlives_a_killed_supervisor_and_the_next_start_works(up: Callable[..., Up]) -> None:
    site = up().wait_ready()
    site.stop(signal.SIGKILL)
    site.wait_ended()
    up().wait_ready()


@pytest.mark.parametrize("value", ["nowhere", "127.0.0.1:99999", ":80"])
def test_an_address_that_is_none_is_refused_with_a_sentence(up: Callable[..., Up], value: str) -> None:
    site = up("--bind", value)
    assert site.process.wait(PATIENCE) == 1
    assert "--bind must be HOST:PORT" in site.log
