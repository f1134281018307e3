"""The parts that other tests lean on do what they promise."""

import subprocess

import pytest

from tests.factories import make_group, make_project, make_server
from tests.parts.git import GitRepository
from tests.parts.postgres import PostgresServer
from tests.parts.programs import PATIENCE, wait_until
from tests.parts.proxy import Uplink
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer


def _ssh(server: OpenSSHServer, command: str) -> str:
    options = [
        "-F",
        "none",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
    ]
    (server.folder / "login_key").chmod(0o600)
    return subprocess.run(
        [
            "ssh",
            *options,
            "-i",
            server.folder / "login_key",
            "-p",
            str(server.port),
            f"{server.username}@127.0.0.1",
            command,
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    ).stdout


def test_an_ssh_server_runs_commands_in_a_home_of_its_own(sshd: OpenSSHServer) -> None:
    assert _ssh(sshd, 'echo "$HOME"').strip() == str(sshd.home)


def test_programs_left_on_an_ssh_server_are_found_and_end_with_it(make_sshd) -> None:
    server = make_sshd()
    _ssh(server, "setsid nohup sleep 300 >/dev/null 2>&1 & true")
    wait_until(lambda: len(server.processes()) == 1, "the program to be left alone")
    server.close()
    wait_until(lambda: not server.processes(), "the program to end")


def test_an_ssh_server_keeps_its_port_and_key_over_a_restart(make_sshd) -> None:
    server = make_sshd()
    port, key = server.port, server.host_key
    server.restart()
    assert (server.port, server.host_key) == (port, key)
    assert _ssh(server, "echo back") == "back\n"


def test_the_queue_server_keeps_its_content_over_an_outage(queue_server: QueueServer) -> None:
    queue_server.client.set("word", "kept")
    queue_server.stop()
    queue_server.start()
    assert queue_server.client.get("word") == b"kept"


def test_a_repository_takes_commits_branches_and_tags(git_repo: GitRepository) -> None:
    first = git_repo.head
    git_repo.branch("feature/one")
    second = git_repo.commit({"docs/page.txt": "text"}, "Second")
    git_repo.tag("v1")
    git_repo.switch("main")
    assert git_repo.head == first
    assert git_repo.git("rev-parse", "v1") == second


def test_a_postgresql_server_answers(postgres: PostgresServer) -> None:
    import psycopg

    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.django_db
def test_the_factories_make_objects_that_fit_the_models(sshd: OpenSSHServer, git_repo: GitRepository) -> None:
    server = make_server(sshd)
    project = make_project(git_url=git_repo.url, deploy_path=str(sshd.home / "shop"))
    for thing in (server.credential, server, make_group(server), project):
        thing.full_clean()


def test_an_uplink_carries_what_several_links_send_one_after_the_other() -> None:
    uplink = Uplink(rate=100.0)
    assert [uplink.passes_at(size, now) for size, now in ((50, 10.0), (100, 10.0), (10, 20.0))] == [10.5, 11.5, 20.1]
