"""More servers than there are threads, files or links for: it is slower, and fails nothing."""

import os
import resource
import threading
import time
from collections.abc import Iterator

import paramiko
import pytest

from deployer.engine.routines import carry_out
from deployer.models import Deployment
from deployer.side_by_side import most_at_once, side_by_side
from servers.local import LocalShell
from servers.processes import raise_file_limit
from servers.shell import Script
from servers.ssh.shell import connect
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.marks import rarely
from tests.parts.programs import PATIENCE, wait_for_end

FILES = resource.RLIMIT_NOFILE


@pytest.fixture
def file_limit() -> Iterator[tuple[int, int]]:
    """The limits of open files of this process; they are put back."""
    before = resource.getrlimit(FILES)
    yield before
    resource.setrlimit(FILES, before)


def links() -> list[threading.Thread]:
    """The threads of the SSH links that are open."""
    return [it for it in threading.enumerate() if isinstance(it, paramiko.Transport) and it.is_active()]


def test_what_comes_of_each_is_given_in_order_and_the_first_error_is_raised() -> None:
    assert side_by_side(range(200), lambda number: number * 2) == [number * 2 for number in range(200)]
    assert side_by_side([], str) == []
    tried = []

    def fail(number: int) -> None:
        tried.append(number)
        if number % 2:
            raise ValueError(number)

    with pytest.raises(ValueError, match=r"^1$"):
        side_by_side(range(10), fail)
    assert sorted(tried) == [*range(10)]


@pytest.mark.parametrize("startable", [0, 1, 3])
def test_where_no_more_threads_can_be_started_fewer_do_the_work(monkeypatch, startable) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_some(thread: threading.Thread) -> None:
        if len(started) == startable:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    workers = set()

    def work(number: int) -> int:
        workers.add(threading.current_thread())
        time.sleep(0.002)
        return number

    assert side_by_side(range(20), work) == [*range(20)]
    assert len(workers) <= max(startable, 1)


@pytest.mark.parametrize(("files", "most"), [(300, 6), (1024, 50), (20, 1)])
def test_no_more_servers_at_once_than_there_may_be_files_for(file_limit, settings, files, most) -> None:
    settings.DEPLOYER_PARALLEL_SERVERS = 50
    resource.setrlimit(FILES, (files, file_limit[1]))
    at_once = most_at_once()
    resource.setrlimit(FILES, file_limit)
    assert at_once == most


def test_builds_get_the_limit_that_the_process_was_started_with(file_limit) -> None:
    soft, hard = file_limit
    resource.setrlimit(FILES, (soft - 1, hard))
    assert raise_file_limit() > soft - 1
    said: list[bytes] = []
    shell, script = LocalShell(), Script("ulimit -Sn")
    shell.run(script, lambda _stream, data: said.append(data), timeout=PATIENCE, stop=threading.Event())
    assert int(b"".join(said)) == soft


@pytest.mark.django_db(transaction=True)
def test_a_link_waits_for_files_that_others_give_back(sshd, file_limit) -> None:
    server = make_server(sshd)
    connect(server).close()  # what is loaded once is loaded
    held = [os.open(os.devnull, os.O_RDONLY) for _file in range(8)]
    resource.setrlimit(FILES, (held[-1] + 1, file_limit[1]))

    def give_back() -> None:
        while held:
            os.close(held.pop())

    threading.Timer(0.5, give_back).start()
    with connect(server) as shell:
        assert not held
        resource.setrlimit(FILES, file_limit)
        assert shell.capture("echo here").stdout == "here\n"


@pytest.mark.django_db(transaction=True)
def test_the_thread_of_a_link_ends_with_it(sshd) -> None:
    before = set(links())
    shell = connect(make_server(sshd))
    (link,) = set(links()) - before
    begun = time.monotonic()
    shell.close()
    link.join(PATIENCE)
    assert time.monotonic() - begun < 1  # its next look at the socket would be two seconds away


def most_links_of(deployment: Deployment) -> int:
    """Carry it out; gives the most links that were open at a time."""
    most, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            most.append(len(links()))

    watcher, worker = (threading.Thread(target=watch), threading.Thread(target=carry_out, args=[deployment.pk]))
    watcher.start()
    worker.start()
    wait_for_end(worker)
    over.set()
    watcher.join()
    return max(most)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["full", rarely("restart_only")])
def test_no_more_links_are_open_than_servers_are_worked_on(make_sshd, git_repo, settings, kind) -> None:
    settings.DEPLOYER_PARALLEL_SERVERS = 2
    machines = [make_sshd() for _machine in range(5)]
    for machine in machines:
        (machine.home / "restart.sh").write_text("sleep 0.05; echo done")
    project = make_project(git_url=git_repo.url, deploy_path="~/shop", deploy_script_path="~/restart.sh")
    group = make_group(*(make_server(machine, name=f"web-{at}") for at, machine in enumerate(machines)))
    most = most_links_of(make_deployment(project, group, deployment_type=kind))
    deployment = Deployment.objects.get()
    assert (deployment.status, deployment.error_message) == ("success", "")
    assert 1 <= most <= 2
    if kind == "full":  # and so it is when all of them are put back
        project.auto_rollback = True
        project.save()
        git_repo.commit({"index.html": "second\n"})
        (machines[4].home / "restart.sh").write_text('[ "$DEPLOY_ACTION" = undo ] || exit 3; sleep 0.05')
        undone = make_deployment(project, group)
        assert 1 <= most_links_of(undone) <= 2
        assert set(undone.targets.values_list("status", flat=True)) == {"rolled_back"}
