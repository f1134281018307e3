"""The log of an application followed live: bounded, by one login for all, and nothing is left on the server."""

import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.following import work
from deployer.following.asked import ON_A_SERVER, NotFollowedError, begin, news
from deployer.following.work import follow_logs
from deployer.models import FollowedLine, LogFollow
from people.models import Entry
from people.rights import NotAllowedError
from projects.models import Project
from servers.models import Server
from tests.factories import make_group, make_member, make_project, make_server, make_user
from tests.parts.programs import command_line, kill_all, processes_running, program, stop_process, wait_until
from tests.parts.queue import QueueServer
from tests.parts.worker import Worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


@pytest.fixture
def follower(queue_server: QueueServer) -> Any:
    """A worker that follows logs."""
    with_logs = Worker(queue_server, "follow")
    yield with_logs
    with_logs.stop()


def at(sshd: Any, path: str, **values: Any) -> tuple[Project, Server]:
    server = make_server(sshd, name="web-1")
    group = make_group(server)
    project = make_project(log_path=path, **values)
    project.server_groups.add(group)
    return project, server


def lines(follow: LogFollow) -> list[str]:
    return [*FollowedLine.objects.filter(follow=follow).order_by("id").values_list("content", flat=True)]


def watch(follow: LogFollow) -> LogFollow:
    """What a page does each second."""
    news(found := LogFollow.objects.get(pk=follow.pk), 0)
    return found


def until(true: Any, follow: LogFollow, what: str) -> None:
    def is_so() -> bool:
        watch(follow)
        return bool(true())

    wait_until(is_so, what)


def tails(path: Path) -> list[int]:
    return processes_running(f"tail -n 200 -F -- {path}")


def test_a_log_is_followed_through_rotation_and_truncation_and_masked(sshd, follower, tmp_path):
    log = tmp_path / "it's a log"
    log.write_text("first\n")
    project, server = at(sshd, str(log))
    project.variables.create(name="KEY", value="hunter22", is_secret=True)
    user = make_user()
    follow = begin(project, server, "file", str(log), user)
    until(lambda: "first" in lines(follow), follow, "the first line")
    with log.open("a") as file:
        file.write("\x1b[31mred\x1b[0m \x1b]0;title\x07 hunter22\n<b>\r\n")
    until(lambda: any("••••••" in line for line in lines(follow)), follow, "a masked line")
    assert not [line for line in lines(follow) if "hunter22" in line or "\x07" in line]
    log.rename(tmp_path / "old")
    log.write_text("after rotation\n")
    until(lambda: "after rotation" in lines(follow), follow, "the rotated file")
    log.write_text("cut\n")
    until(lambda: "cut" in lines(follow), follow, "the truncated file")
    page = Client()
    page.force_login(user)
    shown = page.get(reverse("log_follow", args=[project.pk, follow.pk])).content.decode()
    assert "after rotation" in shown
    assert "&lt;b&gt;" in shown


def test_many_look_by_one_login_and_nothing_is_left_when_they_go(sshd, follower, tmp_path):
    log = tmp_path / "app.log"
    log.write_text("x\n")
    project, server = at(sshd, str(log))
    user = make_user()
    follow = begin(project, server, "file", str(log), user)
    assert begin(project, server, "file", str(log), make_user()).pk == follow.pk
    until(lambda: tails(log), follow, "tail to run")
    assert len(tails(log)) == 1
    LogFollow.objects.update(asked_at=timezone.now() - timedelta(minutes=1))  # they have closed their pages
    wait_until(lambda: not tails(log), "tail to end")
    wait_until(lambda: LogFollow.objects.filter(pk=follow.pk).exclude(ended_at=None).exists(), "the end to be written")
    assert "Nobody" in LogFollow.objects.get(pk=follow.pk).end
    LogFollow.objects.update(ended_at=timezone.now() - timedelta(minutes=5))
    wait_until(lambda: not FollowedLine.objects.exists(), "its lines to go")


@pytest.mark.every_case
def test_nothing_is_left_when_the_worker_is_killed_and_another_one_goes_on(sshd, queue_server, tmp_path):
    log = tmp_path / "app.log"
    log.write_text("x\n")
    project, server = at(sshd, str(log))
    first = Worker(queue_server, "follow")
    try:
        follow = begin(project, server, "file", str(log), make_user())
        until(lambda: tails(log), follow, "tail to run")
        kill_all(first.processes)  # with its work horse: nobody has the time to say anything to the server
        wait_until(lambda: not tails(log), "tail to end without its worker")
    finally:
        first.stop()
    second = Worker(queue_server, "follow")
    try:
        LogFollow.objects.update(beat_at=timezone.now() - timedelta(minutes=1))
        until(lambda: tails(log), follow, "another worker to follow it")
    finally:
        second.stop()


def test_it_ends_by_itself_after_a_while_and_goes_on_when_asked(sshd, queue_server, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "LONGEST", 2)
    monkeypatch.setattr(work, "IDLE", 0.2)
    monkeypatch.setattr(work, "LOOK_EVERY", 0.05)
    log = tmp_path / "app.log"
    log.write_text("x\n")
    project, server = at(sshd, str(log))
    user = make_user()
    follow = begin(project, server, "file", str(log), user)
    follow_logs()
    ended = LogFollow.objects.get(pk=follow.pk)
    assert ended.ended_at is not None
    assert ended.begun_at is not None
    assert ended.end
    assert not ended.has_failed
    wait_until(lambda: not tails(log), "tail to end")
    client = Client()
    client.force_login(user)
    page = client.get(reverse("log_follow", args=[project.pk, follow.pk])).content.decode()
    assert "Go on" in page
    sent = {"server": server.pk, "log": "1"}
    again = client.post(reverse("project_logs", args=[project.pk]), sent)["Location"]
    assert again != reverse("log_follow", args=[project.pk, follow.pk])


@pytest.mark.parametrize(("make", "told"), [("nothing", "There is no log"), ("folder", "is not a file")])
def test_what_cannot_be_followed_says_why_and_the_remedy(sshd, queue_server, tmp_path, monkeypatch, make, told):
    monkeypatch.setattr(work, "IDLE", 0.2)
    monkeypatch.setattr(work, "LOOK_EVERY", 0.05)
    log = tmp_path / "app.log"
    if make == "folder":
        log.mkdir()
    project, server = at(sshd, str(log))
    follow = begin(project, server, "file", str(log), make_user())
    follow_logs()
    row = LogFollow.objects.get(pk=follow.pk)
    assert row.has_failed
    assert told in row.end
    assert "Correct its path" in row.end
    client = Client()
    client.force_login(make_user())
    page = client.get(reverse("log_follow", args=[project.pk, follow.pk])).content.decode()
    assert "Try again" in page
    assert "No output yet" not in page


def test_an_unreachable_server_is_said(queue_server, monkeypatch):
    monkeypatch.setattr(work, "IDLE", 0.2)
    monkeypatch.setattr(work, "LOOK_EVERY", 0.05)
    server = make_server(host="127.0.0.1", port=9)
    project = make_project(log_path="/var/log/x")
    project.server_groups.add(make_group(server))
    follow = begin(project, server, "file", "/var/log/x", make_user())
    follow_logs()
    assert LogFollow.objects.get(pk=follow.pk).end


def test_a_flood_is_held_up_and_bounded(sshd, queue_server, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "LONGEST", 4)
    monkeypatch.setattr(work, "IDLE", 0.2)
    monkeypatch.setattr(work, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(work, "BYTES_A_SECOND", 10_000)
    monkeypatch.setattr(work, "KEPT_LINES", 100)
    log = tmp_path / "app.log"
    log.write_text("".join(f"{number} {'x' * 5000}\n" for number in range(2000)))
    project, server = at(sshd, str(log))
    follow = begin(project, server, "file", str(log), make_user())
    follow_logs()
    assert 0 < len(lines(follow)) <= 100
    wait_until(lambda: not tails(log), "tail to end")


def test_relative_logs_lie_below_the_deploy_path(sshd, queue_server, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "LONGEST", 2)
    monkeypatch.setattr(work, "IDLE", 0.2)
    monkeypatch.setattr(work, "LOOK_EVERY", 0.05)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "worker.log").write_text("from the worker\n")
    project, server = at(sshd, "/x", more_logs="shared/worker.log\n/y", deploy_path=f"{tmp_path}/")
    assert project.logs == [("file", "/x"), ("file", "shared/worker.log"), ("file", "/y")]
    follow = begin(project, server, "file", "shared/worker.log", make_user())
    follow_logs()
    assert lines(follow) == ["from the worker"]


def test_who_may_and_how_many_and_that_it_is_recorded(sshd, queue_server):
    project, server = at(sshd, "/var/log/a", more_logs="\n".join(f"/var/log/{n}" for n in range(5)))
    operator = make_member("operator", "production", project.pk)
    with pytest.raises(NotAllowedError):
        begin(project, server, "file", "/var/log/a", make_member("viewer", "production"))
    with pytest.raises(NotFollowedError):
        begin(project, server, "file", "/etc/shadow", operator)
    with pytest.raises(NotFollowedError):
        begin(project, make_server(sshd), "file", "/var/log/a", operator)
    for kind, name in project.logs[:ON_A_SERVER]:
        begin(project, server, kind, name, operator)
    with pytest.raises(NotFollowedError, match="As many"):
        begin(project, server, *project.logs[ON_A_SERVER], operator)
    entry = Entry.objects.filter(act="downloaded").first()
    assert entry is not None
    assert (entry.note, entry.after["server"]) == ("application log, live", "web-1")
    follow = LogFollow.objects.all()[0]
    for user, status in ((operator, 200), (make_member("viewer"), 403), (make_member("operator", "staging"), 404)):
        client = Client()
        client.force_login(user)
        assert client.get(reverse("log_poll", args=[project.pk, follow.pk])).status_code in {status, 204}


@pytest.mark.parametrize(
    "paths", ["relative/../x", "/a\n/b\n/c\n/d\n/e\n/f", "/var/log/", "~other/x", "/a\x00b"], ids=repr
)
def test_paths_of_logs_are_judged(paths):
    project = make_project()
    project.more_logs = paths
    with pytest.raises(ValidationError):
        project.full_clean()


def test_what_supervisor_keeps_is_followed_on_both_streams_and_left_alone(sshd, follower, tmp_path):
    text = "i=0; while :; do i=$((i+1)); echo out $i; echo err $i >&2; sleep 0.2; done"
    config = tmp_path / "supervisord.conf"
    config.write_text(
        f"[unix_http_server]\nfile={tmp_path}/s.sock\n[supervisord]\nlogfile={tmp_path}/d.log\nchildlogdir={tmp_path}\n"
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory="
        "supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl=unix://{tmp_path}/s.sock\n[program:shop]\ncommand=bash -c '{text}'\n"
    )
    supervisord = subprocess.Popen([program("supervisord", "supervisor"), "-n", "-c", config])
    try:
        wait_until((tmp_path / "s.sock").exists, "supervisor to listen")
        name = f"-c {config} shop"
        project, server = at(sshd, "", service_kind="supervisor", service_name=name)
        assert project.logs == [("supervisor", name)]
        follow = begin(project, server, "supervisor", name, make_user())
        until(lambda: {line.partition(" ")[0] for line in lines(follow)} >= {"out", "err"}, follow, "both streams")
        LogFollow.objects.update(asked_at=timezone.now() - timedelta(minutes=1))
        wait_until(lambda: not _naming(f"{config} tail"), "supervisorctl to end")
        assert supervisord.poll() is None
    finally:
        stop_process(supervisord)


def _naming(words: str) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if words in command_line(pid)]


KEEPERS = ("systemctl", "journalctl", "docker", "podman", "pm2", "node")
#: Stands in for a keeper of logs: says how it was called, and goes on until it is ended.
KEEPER = """#!/bin/sh
case "$*" in
*LoadState*) echo LoadState=loaded ;;
*"-n 1 "*|ps*|inspect*|jlist) echo ok ;;
-e*) echo APP ;;
*) echo "$(basename "$0") $*"; exec sleep 7421 ;;
esac
"""


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("systemd", "shop@1.service", "--no-pager -q -o short-iso -n 200 -f -u shop@1.service"),
        ("docker", "shop", "logs --tail 200 -f shop"),
        ("pm2", "my shop", "logs my shop --lines 200"),
    ],
)
def test_each_keeper_is_asked_in_its_own_words_and_let_go(sshd, queue_server, monkeypatch, kind, name, told):
    monkeypatch.setattr(work, "LONGEST", 4)
    monkeypatch.setattr(work, "IDLE", 0.2)
    monkeypatch.setattr(work, "LOOK_EVERY", 0.05)
    (sshd.home / "bin").mkdir(exist_ok=True)
    keepers = [sshd.home / "bin" / keeper for keeper in KEEPERS]
    for keeper in keepers:
        keeper.write_text(KEEPER)
        keeper.chmod(0o755)
    (sshd.home / ".pm2").mkdir(exist_ok=True)
    (sshd.home / ".pm2" / "pm2.pid").write_text(str(os.getpid()))
    project, server = at(sshd, "", service_kind=kind, service_name=name)
    follow = begin(project, server, kind, name, make_user())
    follow_logs()
    for keeper in keepers:
        keeper.unlink()
    assert [line.partition(" ")[2] for line in lines(follow)] == [told]
    wait_until(lambda: not processes_running("sleep 7421"), "it to end")
