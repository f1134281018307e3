"""`deployer up` brings everything up, keeps it up, and leaves nothing behind."""

import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.marks import rarely
from tests.parts.programs import PATIENCE, answers, command_line, kill_all, wait_until
from tests.parts.sshd import OpenSSHServer
from tests.parts.up import Up


def _kill_one(up: Up, what: str) -> None:
    kill_all([min(pid for pid in up.processes if what in command_line(pid))])


def test_one_command_brings_up_queue_workers_and_web_and_shows_the_first_login_once(
    up: Callable[..., Up], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()  # nothing is there yet
    site = up().wait_ready()
    assert site.get("/admin/login/") == 200
    assert re.search(r"password \w{20}$", site.log, re.MULTILINE)
    assert (site.folder / "queue.sock").stat().st_mode & 0o077 == 0
    assert site.stop(signal.SIGTERM) == 0
    again = up().wait_ready()
    assert "password" not in again.log


@pytest.mark.parametrize("number", [signal.SIGTERM, rarely(signal.SIGINT)])
def test_a_signal_stops_everything_and_leaves_no_process(up: Callable[..., Up], number: signal.Signals) -> None:
    site = up().wait_ready()
    assert len(site.processes) >= 6  # up, queue, two workers, two web processes
    assert site.stop(number) == 0
    site.wait_ended()
    assert not answers(site.port)


RESTART = """\
echo begun >>{folder}/ledger
until [ -e {folder}/go ]; do sleep 0.05; done
echo ended >>{folder}/ledger
"""
DECLARED = """\
credentials:
  - {{name: key, username: {user}, kind: ssh_key, private_key_file: {folder}/key}}
servers:
  - {{name: web-1, host: {host}, port: {port}, credential: key}}
groups:
  - {{name: web, servers: [web-1]}}
projects:
  - name: shop
    git_url: https://git.example.com/shop.git
    deploy_path: {folder}
    deploy_script_path: {folder}/restart.sh
"""


def _in_the_middle_of_a_restart(site: Up, sshd: OpenSSHServer, folder: Path) -> None:
    """Let the site carry out a deployment, up to where its script waits for the file ``go``."""
    (folder / "key").write_text(sshd.private_key)
    (folder / "restart.sh").write_text(RESTART.format(folder=folder))
    declared = DECLARED.format(user=sshd.username, folder=folder, host=sshd.host, port=sshd.port)
    (folder / "shop.yaml").write_text(declared)
    site.manage("apply", str(folder / "shop.yaml"))
    site.manage("deploy", "shop", "--type", "restart_only", "--group", "web")
    wait_until((folder / "ledger").exists, "the script to begin")


def _said_of_it(site: Up) -> tuple[str, str]:
    """The status of the only deployment and of its server."""
    with sqlite3.connect(site.folder / "db.sqlite3") as database:
        return (
            *database.execute("SELECT status FROM deployer_deployment").fetchone(),
            *database.execute("SELECT status FROM deployer_target").fetchone(),
        )


def _ask_all_to_stop(site: Up) -> None:
    """As systemd does by default: SIGTERM for every process of the unit (KillMode=control-group)."""
    for pid in site.processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def test_where_every_process_is_asked_to_stop_a_deployment_is_finished_first(
    up: Callable[..., Up], sshd: OpenSSHServer, tmp_path: Path
) -> None:
    site = up("--workers", "2").wait_ready()
    _in_the_middle_of_a_restart(site, sshd, tmp_path)
    _ask_all_to_stop(site)
    wait_until(lambda: "Waiting for a running deployment to finish" in site.log, "the supervisor to wait")
    time.sleep(3)  # longer than a worker needs to take a second request for an order to stop at once
    assert site.process.poll() is None
    assert site.get("/admin/login/") == 200  # whoever watches it sees its end
    assert site.queue.ping()
    (tmp_path / "go").touch()
    assert site.process.wait(PATIENCE) == 0
    site.wait_ended()
    assert (tmp_path / "ledger").read_text() == "begun\nended\n"
    assert _said_of_it(site) == ("success", "success")


@pytest.mark.long
def test_a_second_request_stops_it_at_once(up: Callable[..., Up], sshd: OpenSSHServer, tmp_path: Path) -> None:
    site = up("--workers", "1").wait_ready(1)
    _in_the_middle_of_a_restart(site, sshd, tmp_path)
    _ask_all_to_stop(site)
    wait_until(lambda: "Waiting for a running deployment to finish" in site.log, "the supervisor to wait")
    assert site.stop(signal.SIGTERM) == 0
    site.wait_ended()
    assert (tmp_path / "ledger").read_text() == "begun\n"
    (tmp_path / "go").touch()
    with sqlite3.connect(
        site.folder / "db.sqlite3"
    ) as database:  # else it is given half a minute to show signs of life
        database.execute("UPDATE deployer_deployment SET heartbeat_at = '2026-01-01'")
    again = up("--workers", "1").wait_ready(1)
    wait_until(lambda: _said_of_it(again) == ("success", "success"), "it to be settled as it has ended")


def test_what_dies_is_started_again_and_said(up: Callable[..., Up]) -> None:
    site = up("--workers", "1").wait_ready(1)
    before = site.queue.smembers("rq:workers")
    _kill_one(site, "worker build deploy")
    wait_until(lambda: site.queue.smembers("rq:workers") - before, "a new worker")
    _kill_one(site, "valkey-server")
    _kill_one(site, "web --fd")
    missed = [f"{name} was killed by SIGKILL; it starts again in" for name in ("worker-1", "queue", "web-1")]
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
