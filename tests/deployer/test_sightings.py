"""What runs where: seen by deployments and by looking, and whatever differs from what deployer left is said."""

import io
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from deployer.board.sightings import LOOK_EVERY, View, board, refresh, refresh_old
from deployer.engine.routines import carry_out
from deployer.models import Deployment, Sighting, Target
from deployer.queue.sending import enqueue_look
from projects.models import HealthCheck, Project
from servers.models import Server
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.programs import command_line, kill_all, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPT = """\
[ -f {folder}/pid ] && kill "$(cat {folder}/pid)"
cd {folder}/shop/current
(exec -a {name} sleep 1000) </dev/null >/dev/null 2>&1 &
echo $! >{folder}/pid
"""


@pytest.fixture
def name() -> str:
    return f"seen-{secrets.token_hex(6)}"


@pytest.fixture
def project(git_repo, tmp_path: Path, name: str) -> Project:
    (tmp_path / "restart.sh").write_text(SCRIPT.format(folder=tmp_path, name=name))
    return make_project(
        name="shop",
        git_url=git_repo.url,
        deploy_path=str(tmp_path / "shop"),
        deploy_script_path=str(tmp_path / "restart.sh"),
        process_name=name,
    )


@pytest.fixture
def start(name: str) -> Iterator[Callable[[str], int]]:
    """``start(folder)`` runs the application there, as somebody would by hand; gives its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def run(folder: str) -> int:
        started.append(subprocess.Popen(["bash", "-c", f"exec -a {name} sleep 1000"], cwd=folder))
        wait_until(lambda: command_line(started[-1].pid) == f"{name} 1000", "the application")
        return started[-1].pid

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def server(sshd) -> Server:
    return make_server(sshd, name="web-1")


@pytest.fixture
def live(project: Project, server: Server, tmp_path: Path, queue_server: object) -> Iterator[str]:
    """The version that was just deployed."""
    yield deployed(project, server)
    kill(tmp_path)


def deployed(project: Project, server: Server) -> str:
    deployment = make_deployment(project, make_group(server))
    assert carry_out(deployment.pk)
    deployment.refresh_from_db()
    assert deployment.status == "success", deployment.error_message
    return str(deployment.release)


def kill(folder: Path) -> None:
    """The application dies, without deployer's doing."""
    kill_all([int((folder / "pid").read_text())])


def seen(project: Project) -> View:
    views = board(project)
    assert len(views) == 1
    return views[0]


def sighting(project: Project) -> Sighting:
    it = seen(project).sighting
    assert it is not None
    return it


def seen_at(project: Project) -> datetime:
    moment = sighting(project).seen_at
    assert moment is not None
    return moment


def test_a_deployment_leaves_what_it_proved_and_looking_finds_the_same(project, live, tmp_path):
    for _time in range(2):
        it = sighting(project)
        assert (it.release, it.problem) == (live, "")
        assert [entry["pid"] for entry in it.processes] == [int((tmp_path / "pid").read_text())]
        assert seen(project).drift == []
        refresh(project)


def test_a_restart_elsewhere_is_noticed(project, live, tmp_path, start):
    kill(tmp_path)
    pid = start(str(tmp_path / "shop" / "current"))
    refresh(project)
    (remark,) = seen(project).drift
    assert f"restarted by somebody else: pid {pid} “" in remark
    assert f"in {(tmp_path / 'shop' / 'current').resolve()} since 20" in remark


def test_all_times_of_a_page_are_of_one_zone(project, live, tmp_path, start, settings, admin_client, capsys):
    """The servers' own are told in UTC, and kept so."""
    settings.TIME_ZONE = "Asia/Shanghai"
    kill(tmp_path)
    start(str(tmp_path / "shop" / "current"))
    refresh(project)
    kept = sighting(project).processes[0]["since"]
    assert kept.endswith(" UTC")
    here = datetime.strptime(kept, "%Y-%m-%d %H:%M:%S UTC") + timedelta(hours=8)
    page = admin_client.get(reverse("project_board", args=[project.pk])).content.decode()
    assert page.count(f"since {here:%Y-%m-%d %H:%M:%S} CST") == 2  # the process, and the remark on it
    assert "UTC" not in page
    with pytest.raises(SystemExit):
        call_command("status", project.name)
    assert f"since {here:%Y-%m-%d %H:%M:%S} CST" in capsys.readouterr().out


@pytest.mark.parametrize("last_line", ["true", '[ "$DEPLOY_RELEASE" != {live} ]'], ids=["unhealthy", "script fails"])
def test_what_a_rollback_that_failed_has_left_is_nobody_elses_doing(project, server, live, tmp_path, last_line):
    with (tmp_path / "restart.sh").open("a") as script:
        script.write(last_line.format(live=live) + "\n")
    HealthCheck.objects.create(project=project, kind="command", target="false", retries=0)
    Project.objects.update(auto_rollback=True)
    project.refresh_from_db()
    deployment = make_deployment(project, make_group(server), rebuild=True)
    assert carry_out(deployment.pk)
    target = deployment.targets.get()
    assert (target.status, target.release_before, target.release_after) == ("failed", live, live)
    for _time in range(2):
        assert seen(project).drift == []
        assert sighting(project).release == live
        refresh(project)


def test_a_process_that_died_is_noticed(project, live, tmp_path):
    kill(tmp_path)
    refresh(project)
    assert seen(project).drift == ["the process is not running"]


def test_a_switch_by_hand_is_noticed_and_so_is_the_old_code(project, server, live, git_repo, tmp_path):
    git_repo.commit({"a": "1"})
    newer = deployed(project, server)
    current = tmp_path / "shop" / "current"
    current.unlink()
    current.symlink_to(f"releases/{live}")
    refresh(project)
    pid = (tmp_path / "pid").read_text().strip()
    assert seen(project).drift == [
        f"release {live} is live, but deployer left {newer}",
        f"pid {pid} runs old code, from release {newer}",
    ]


def test_a_live_release_that_was_deleted_is_noticed_everywhere_until_it_is_back(
    project, server, live, tmp_path, client
):
    folder = tmp_path / "shop" / "releases" / live
    folder.rename(tmp_path / "away")
    told = f"current leads to {live}, which is not there any more"
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("status", "shop", "--look", stdout=out)
    assert (ended.value.code, told in out.getvalue()) == (1, True)
    assert seen(project).drift == [told]
    with pytest.raises(SystemExit):
        call_command("status", "shop", "--json", stdout=out)
    assert json.loads(out.getvalue().splitlines()[-1])["drift"] == [told]
    client.force_login(make_user())
    assert told in client.get(reverse("project_board", args=[project.pk])).content.decode()
    (tmp_path / "away").rename(folder)
    call_command("status", "shop", "--look", stdout=out)
    assert seen(project).drift == []


@pytest.mark.any_database
def test_a_deployment_brings_back_a_live_release_that_was_deleted(project, server, live, tmp_path):
    shutil.rmtree(tmp_path / "shop" / "releases" / live)
    refresh(project)
    assert sighting(project).is_lost
    restart = make_deployment(project, make_group(server), deployment_type="restart_only")
    assert carry_out(restart.pk)
    assert sighting(project).is_lost, "a restart alone brings nothing back"
    assert deployed(project, server) == live
    assert seen(project).drift == []


def test_a_look_learns_what_the_machine_is(project, server, live):
    server.refresh_from_db()
    facts = server.facts
    known = Path("/etc/machine-id")
    assert facts["machine_id"] == (known.read_text().strip() if known.exists() else "")
    assert facts["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert {"bash", "tar"} <= set(facts["tools"])
    assert facts["free"] > 0
    assert facts["kernel"] == os.uname().release
    Server.objects.update(facts={"free": 7})
    refresh(project)
    server.refresh_from_db()
    assert (server.facts["free"], server.facts["kernel"]) == (7, os.uname().release), "what was not asked for stays"


def test_a_server_that_cannot_be_asked_keeps_what_was_seen_before(project, make_sshd, tmp_path, queue_server):
    sshd = make_sshd()
    server = make_server(sshd)
    version = deployed(project, server)
    sshd.stop()
    refresh(project)
    it = sighting(project)
    assert (it.release, "could not be reached" in it.problem) == (version, True)
    server.refresh_from_db()
    assert server.connection_status == "offline"
    sshd.start()
    refresh(project)
    assert sighting(project).problem == ""
    kill(tmp_path)


def test_a_look_that_fails_changes_neither_what_was_seen_nor_when(project, make_sshd, tmp_path, queue_server, client):
    sshd = make_sshd()
    server = make_server(sshd, name="web-1")
    version, before = deployed(project, server), seen_at(project)
    kill(tmp_path)
    refresh(project)
    assert seen(project).drift == ["the process is not running"]
    before = seen_at(project)
    sshd.stop()
    refresh(project)
    view = seen(project)
    assert (seen_at(project), view.drift) == (before, ["the process is not running"]), "that was really seen"
    assert "could not be reached" in view.failure
    failed = sighting(project).failed_at
    assert failed is not None
    assert failed > before
    refresh_old()
    assert sighting(project).failed_at == failed, "it was asked lately"

    under_way = make_deployment(project, make_group(server))
    under_way.claim_for_worker()
    target = under_way.targets.get()
    target.deployment = under_way
    assert target.move(Target.Status.RESTARTING, release_after="v2")
    assert target.move(Target.Status.UNKNOWN, error="The link was lost.")
    under_way.end(Deployment.Status.FAILED, "web-1 failed.")
    view = seen(project)
    assert (view.is_outdated, view.drift, view.failure) == (True, [], ""), "all of it is older than the deployment"
    refresh(project)
    view = seen(project)
    assert (view.is_outdated, view.drift, view.is_bad) == (True, [], True)
    assert "could not be reached" in view.failure
    assert (seen_at(project), sighting(project).release) == (before, version)
    client.force_login(make_user())
    for page in (client.get("/"), client.get(reverse("project_board", args=[project.pk]))):
        html = page.content.decode()
        assert "could not be reached" in html
        assert "deployer left" not in html
        assert "the process is not running" not in html
    code, text = status()
    assert (code, "changed since then" in text, "deployer left" in text) == (1, True, False)
    told = json.loads(status("--json")[1])
    assert (told["seen_at"], told["drift"]) == (before.isoformat(), [])
    assert told["failed_at"] > told["seen_at"]

    sshd.start()
    refresh(project)
    view = seen(project)
    assert (view.is_outdated, view.failure) == (False, "")
    assert f"release {version} is live, but deployer left v2" in view.drift
    assert sighting(project).failed_at is None


def test_nothing_is_claimed_of_a_server_that_was_never_seen(project, make_sshd, tmp_path, queue_server, client):
    sshd = make_sshd()
    server = make_server(sshd, name="web-1")
    deployed(project, server)
    kill(tmp_path)
    Sighting.objects.all().delete()
    sshd.stop()
    refresh(project)
    view = seen(project)
    assert (view.is_seen, view.is_outdated, view.drift, view.is_bad) == (False, False, [], True)
    assert sighting(project).seen_at is None
    client.force_login(make_user())
    html = client.get("/").content.decode()
    assert "could not be reached" in html
    assert "deployer left" not in html
    assert "never" in client.get(reverse("project_board", args=[project.pk])).content.decode()
    code, text = status()
    assert (code, "never seen" in text) == (1, True)


def test_nothing_is_asked_while_a_deployment_is_under_way(project, server, live):
    before = seen_at(project)
    under_way = make_deployment(project, make_group(server))
    refresh(project)
    assert seen_at(project) == before
    Deployment.objects.filter(pk=under_way.pk).update(finished_at=timezone.now())
    refresh(project)
    assert seen_at(project) > before


def test_only_what_nobody_looked_at_lately_is_looked_at_by_itself(project, live):
    before = seen_at(project)
    refresh_old()
    assert seen_at(project) == before
    Sighting.objects.update(seen_at=timezone.now() - LOOK_EVERY)
    refresh_old()
    assert seen_at(project) >= before


@pytest.mark.any_database
def test_a_worker_looks(project, live, worker):
    Sighting.objects.all().delete()
    assert enqueue_look()
    wait_until(Sighting.objects.exists, "the worker to look")
    assert sighting(project).release == live


def status(*words: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("status", *words, stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def test_the_command_says_it_and_its_status_is_that_of_the_servers(project, live, tmp_path):
    code, text = status()
    assert (code, f"shop | web-1 | {live}; pid " in text) == (0, True)
    kill(tmp_path)
    code, text = status("shop", "--look")
    assert (code, "! the process is not running" in text) == (1, True)
    code, text = status("--json")
    shown = json.loads(text)
    assert (shown["release"], shown["drift"], shown["processes"]) == (live, ["the process is not running"], [])


def test_the_page_shows_it_and_asks_on_request(project, live, tmp_path, admin_client):
    address = reverse("project_board", args=[project.pk])
    assert f'hx-get="{address}"' in admin_client.get(reverse("project", args=[project.pk])).content.decode()
    page = admin_client.get(address).content.decode()
    assert live in page
    assert "drift" not in page
    kill(tmp_path)
    page = admin_client.post(reverse("project_look", args=[project.pk])).content.decode()
    assert "the process is not running" in page
    Sighting.objects.update(problem="<script>alert(1)</script>", release="<b>")
    page = admin_client.get(address).content.decode()
    assert "&lt;script&gt;" in page
    assert "<b>" not in page


def test_more_servers_ask_the_database_no_more_often(project, live, sshd):
    counts = []
    for _time in range(2):
        with CaptureQueriesContext(connection) as queries:
            board(project)
        counts.append(len(queries))
        if len(counts) == 1:
            group = make_group(*(make_server(sshd) for _number in range(5)))
            added = make_deployment(project, group)
            added.targets.update(started_at=timezone.now(), status="success", release_after="x")
    assert len(board(project)) == 6
    assert counts[0] == counts[1]


def test_the_first_page_shows_every_project_and_what_differs(project, live, tmp_path, admin_client, server):
    page = admin_client.get("/").content.decode()
    assert "First commit" in page
    assert "place-ok" in page
    assert "needs-look" not in page
    kill(tmp_path)
    refresh(project)
    make_deployment(project, make_group(server))
    page = admin_client.get(reverse("overview")).content.decode()
    assert "web-1: the process is not running" in page
    assert "Pending" in page


def test_the_first_page_asks_the_database_no_more_often_for_more_projects(project, live, sshd, admin_client):
    counts = []
    for _time in range(2):
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get("/").status_code == 200
        counts.append(len(queries))
        if len(counts) == 1:
            for number in range(4):
                other = make_project(name=f"other-{number}")
                added = make_deployment(other, make_group(*(make_server(sshd) for _number in range(3))))
                added.targets.update(started_at=timezone.now(), status="success", release_after="x")
                Deployment.objects.filter(pk=added.pk).update(finished_at=timezone.now(), status="success")
    assert counts[0] == counts[1]
