"""A place is a machine and a real folder, whatever either is called."""

import random
import secrets
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from deployer.engine.routines import carry_out, settle_lost
from deployer.launching.again import launch_rollback, retry_failed
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.models import Deployment, Lease, LogLine
from deployer.queue.sweep import take_over
from projects.commands import release as release_commands
from servers.models import Server
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.marks import rarely
from tests.parts.cue import Cue
from tests.parts.programs import wait_for_end

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def place(sshd, tmp_path: Path) -> Path:
    (tmp_path / "restart.sh").write_text(f'echo "$DEPLOY_RELEASE" >>{tmp_path}/ran\n')
    return tmp_path / "shop"


@pytest.fixture
def two_names(sshd):
    """One machine that is in the inventory twice."""
    return [make_server(sshd, name="web-1"), make_server(sshd, name="web-1b", host="localhost")]


def shop(place: Path, **values):
    return make_project(**{"deploy_path": str(place), "deploy_script_path": str(place.parent / "restart.sh")} | values)


def ended(deployment: Deployment) -> Deployment:
    assert carry_out(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


def restarted(project, *groups, **values) -> Deployment:
    return ended(make_deployment(project, *groups, deployment_type="restart_only", **values))


def deployed(project, *groups, **values) -> Deployment:
    return ended(make_deployment(project, *groups, **values))


def ends(deployment: Deployment) -> dict[str, str]:
    return dict(deployment.targets.values_list("server_name", "status"))


def runs(place: Path) -> list[str]:
    ran = place.parent / "ran"
    return ran.read_text().split("\n")[:-1] if ran.exists() else []


def said(deployment: Deployment, text: str) -> list[str]:
    lines = LogLine.objects.filter(deployment=deployment).values_list("content", flat=True)
    return [line for line in lines if text in line]


# --- one machine under two names ---------------------------------------------------------------------


@pytest.mark.parametrize("batches", ["100%", "1"])
def test_a_machine_with_two_names_is_restarted_once_and_both_are_told(place, two_names, batches):
    place.mkdir()
    it = restarted(shop(place, batches=batches), make_group(*two_names))
    assert it.status == "success", it.error_message
    assert ends(it) == {"web-1": "success", "web-1b": "success"}
    assert len(runs(place)) == 1
    first, other = it.targets.get(same_as=None), it.targets.exclude(same_as=None).get()
    assert other.same_as == first
    assert other.error == f"The same machine and folder as {first}: done there."
    assert (other.exit_code, other.proof, other.begun_at) == (first.exit_code, first.proof, first.begun_at)
    assert said(it, "Done: web-1, web-1b")
    assert said(it, f"{other} is the same machine and folder as {first}")


def test_a_machine_with_two_names_gets_one_upload_and_one_restart(place, two_names, git_repo):
    project, group = shop(place, git_url=git_repo.url), make_group(*two_names)
    for number in range(3):
        git_repo.commit({"a": str(number)})
        it = deployed(project, group)
        assert it.status == "success", it.error_message
        assert ends(it) == {"web-1": "success", "web-1b": "success"}
        assert len(said(it, "Uploaded")) == 1
        assert it.targets.get(server_name="web-1b").same_as == it.targets.get(server_name="web-1")
        versions = set(it.targets.values_list("release_after", flat=True))
        assert versions == {str(it.release)} == {(place / "current").resolve().name}
    assert len(runs(place)) == 3


@pytest.mark.any_database
def test_a_rollback_treats_two_names_as_one_machine(place, two_names, git_repo):
    project, group = shop(place, git_url=git_repo.url), make_group(*two_names)
    first = deployed(project, group).release
    git_repo.commit({"a": "1"})
    second = deployed(project, group)
    back = ended(launch_rollback(second, created_by=None, trigger="cli"))
    assert (back.status, back.release) == ("success", first)
    assert (place / "current").resolve().name == str(first)
    assert runs(place) == [str(first), str(second.release), str(first)]


@pytest.mark.any_database
def test_a_machine_with_two_names_is_rolled_back_once(place, two_names, git_repo):
    project, group = shop(place, git_url=git_repo.url, auto_rollback=True), make_group(*two_names)
    first = deployed(project, group)
    before = str(first.release)
    (place.parent / "restart.sh").write_text(
        f'echo "$DEPLOY_RELEASE" >>{place.parent}/ran; [ "$DEPLOY_RELEASE" = {before} ]\n'
    )
    git_repo.commit({"a": "1"})
    bad = deployed(project, group)
    assert bad.status == "failed"
    assert ends(bad) == {"web-1": "rolled_back", "web-1b": "rolled_back"}
    assert set(bad.targets.values_list("release_after", flat=True)) == {before}
    assert runs(place) == [before, str(bad.release), before]


def test_a_machine_that_fails_is_one_failure_however_many_names_it_has(place, two_names, make_sshd):
    third = make_sshd()
    (place.parent / "restart.sh").write_text(f"echo >>{place.parent}/ran; [ $HOME = {third.home} ]")
    project = shop(place, batches="2, 100%", max_failures=1, deploy_path="")
    it = restarted(project, make_group(*two_names), make_group(make_server(third, name="web-2")))
    assert ends(it) == {"web-1": "failed", "web-1b": "failed", "web-2": "success"}
    assert "web-1b: The same machine and folder as web-1" in it.error_message or "web-1: The same" in it.error_message
    assert len(runs(place)) == 2
    (place.parent / "restart.sh").write_text(f"echo >>{place.parent}/ran")
    again = ended(retry_failed(it, created_by=None, trigger="cli"))
    assert ends(again) == {"web-1": "success", "web-1b": "success"}
    assert len(runs(place)) == 3


def test_what_a_lost_worker_did_under_one_name_holds_under_the_other(place, two_names, git_repo):
    project, group = shop(place, git_url=git_repo.url), make_group(*two_names)
    first = deployed(project, group)
    git_repo.commit({"a": "1"})
    second = deployed(project, group)
    before = str(first.release)
    # As it is when the worker dies right after the switch.
    Deployment.objects.filter(pk=second.pk).update(status="deploying", finished_at=None)
    second.targets.filter(same_as=None).update(status="switching", run_key=secrets.token_hex(16), finished_at=None)
    second.targets.exclude(same_as=None).update(status="pending", error="", finished_at=None, release_after="")
    second.refresh_from_db()
    assert take_over(second, "was lost")
    assert settle_lost(second.pk)
    assert ends(second) == {"web-1": "failed", "web-1b": "failed"}
    assert set(second.targets.values_list("release_after", flat=True)) == {before}


def test_before_a_launch_the_two_names_are_told(place, two_names):
    place.mkdir()
    found = preflight_of(LaunchRequest(shop(place), [make_group(*two_names)]))
    told = [str(finding) for finding in found if "one machine" in finding.what]
    assert told == ["web-1b and web-1 are one machine and folder: it is deployed to only once."]
    assert not list(place.iterdir())


def test_two_machines_are_never_taken_for_one_whatever_they_say(place, make_sshd):
    servers = [make_server(make_sshd(), name=name) for name in ("web-1", "web-2")]
    it = restarted(shop(place), make_group(*servers))
    assert it.status == "success"
    assert len(runs(place)) == 2, "two host keys are two machines, whatever they say of themselves"


def test_a_server_that_cannot_tell_is_taken_by_its_name(make_sshd, place):
    sshd = make_sshd()
    (sshd.home / "bin").mkdir()
    (sshd.home / "bin" / "stat").write_text("#!/bin/sh\nexit 1\n")
    (sshd.home / "bin" / "stat").chmod(0o755)
    it = restarted(shop(place), make_group(make_server(sshd, name="a"), make_server(sshd, name="b", host="localhost")))
    assert it.status == "success"
    assert len(runs(place)) == 2


# --- one folder under two names ----------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["./shop", "link", "up/../shop", "link/"])
@pytest.mark.parametrize("kind", ["restart_only", rarely("full")])
def test_two_spellings_of_one_folder_are_one_place(place, sshd, git_repo, spelling, kind):
    cue = Cue(place.parent)
    (place.parent / "restart.sh").write_text(f"echo x >>{place.parent}/ran; {cue}")
    (place.parent / "up").mkdir()
    (place.parent / "link").symlink_to("shop")
    if kind == "restart_only" or spelling.startswith("link"):
        place.mkdir()
    one = shop(place, name="one", git_url=git_repo.url)
    two = shop(place, name="two", git_url=git_repo.url, deploy_path=f"{place.parent}/{spelling}")
    first = make_deployment(one, make_group(make_server(sshd)), deployment_type=kind)
    worker = threading.Thread(target=carry_out, args=[first.pk])
    worker.start()
    cue.wait()
    second = ended(make_deployment(two, make_group(make_server(sshd, host="localhost")), deployment_type=kind))
    assert second.status == "failed"
    assert f"is in use by deployment #{first.pk} one" in second.error_message
    cue.give()
    wait_for_end(worker)
    third = ended(make_deployment(two, make_group(make_server(sshd, host="localhost")), deployment_type=kind))
    assert third.status == "success", third.error_message


def test_a_place_is_held_by_one_deployment_until_it_has_ended():
    servers = [make_server() for _number in range(2)]
    one, two = (make_deployment(make_project(), make_group(*servers)) for _number in range(2))
    assert Lease.take(servers[0], "/srv/x", one, "place") is None
    assert Lease.take(servers[1], "/srv/./x", two, "place") == one
    assert Lease.take(servers[0], "/srv/./x", two, "place") == one
    assert Lease.take(servers[0], "/srv/x", two, "") == one, "by its name, where nothing else is known"
    assert Lease.take(servers[1], "/srv/x", one, "place") is None, "its own under another name"
    assert Lease.take(servers[1], "/srv/y", two, "another") is None
    one.request_cancel()
    assert Lease.take(servers[1], "/srv/./x", two, "place") is None
    assert Lease.take(servers[0], "/srv/x", two, "place") is None
    assert Lease.objects.filter(place="place").count() == 1


def test_of_twenty_that_want_one_place_at_once_one_has_it():
    servers = [make_server() for _number in range(20)]
    deployments = [make_deployment(make_project(), make_group(server)) for server in servers]
    answers: list[Deployment | None] = []
    pairs = zip(servers, deployments, strict=True)
    threads = [
        threading.Thread(target=lambda s=server, d=it: answers.append(Lease.take(s, "/srv", d, "place")))
        for server, it in pairs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(None) == 1
    holder = Lease.objects.get(place="place").deployment
    assert {answer for answer in answers if answer} == {holder}


def test_many_names_of_one_machine_in_one_deployment_are_in_nobodys_way():
    """Each takes the real place from the one before, whoever asks meanwhile."""
    servers = [make_server() for _number in range(12)]
    for _try in range(5):
        deployment = make_deployment(make_project(), make_group(*servers))
        at_once = threading.Barrier(len(servers))

        def take(server: Server, it: Deployment = deployment, gate: threading.Barrier = at_once) -> Deployment | None:
            try:
                gate.wait()
                return Lease.take(server, "/srv", it, "place")
            finally:
                connection.close()

        with ThreadPoolExecutor(len(servers)) as threads:
            assert [*threads.map(take, servers)] == [None] * len(servers)
        assert Lease.objects.filter(place="place").count() == 1
        Deployment.objects.update(status="success", finished_at=timezone.now())


# --- one folder of several machines ------------------------------------------------------------------


@pytest.mark.any_database
def test_machines_that_share_a_folder_get_one_upload_and_a_restart_each(place, make_sshd, git_repo):
    servers = [make_server(make_sshd(), name=f"web-{number}") for number in (1, 2, 3)]
    project, group = shop(place, git_url=git_repo.url), make_group(*servers)
    for number in range(3):
        git_repo.commit({"a": str(number), f"big-{number}": random.Random(number).randbytes(2_000_000)})
        it = deployed(project, group)
        assert set(ends(it).values()) == {"success"}, it.error_message
        assert len(said(it, "Uploaded")) == 1
        assert len(said(it, "is already on the server")) == 2
        assert runs(place) == [*runs(place)[: 3 * number], *[str(it.release)] * 3]
        assert not list(place.glob("releases/.*"))


def test_where_the_first_upload_to_a_shared_folder_fails_another_machine_makes_it(place, make_sshd, git_repo):
    small, other = make_sshd(), make_sshd()
    (small.home / ".bashrc").write_text("trap '' XFSZ\nulimit -f 1000\n")  # no file larger than 512 kB: a small disk
    git_repo.commit({"big": random.Random(3).randbytes(3_000_000)})
    group = make_group(make_server(small, name="web-1"), make_server(other, name="web-2"))
    it = deployed(shop(place, git_url=git_repo.url, max_failures=1), group)
    assert ends(it)["web-2"] == "success", it.error_message
    assert (place / "current").resolve().name == str(it.release)


def test_what_another_deployment_has_on_its_way_is_left_alone(tmp_path):
    releases = tmp_path / "releases"
    releases.mkdir()
    for name in (
        ".v1.7-aa.unpacking",
        ".v1.8-bb.unpacking",
        ".v1.9-cc.unpacking",
        ".v1.9-dd.unpacking",
        ".v0.0abc.part",
    ):
        (releases / name).mkdir()
    (releases / ".7.stager").symlink_to("1")
    (releases / ".8.stager").symlink_to("2")
    errand = release_commands.Errand(9, 5, frozenset({8, 9}), ("9-dd",), "v1", 0)
    text = release_commands.prepare(str(tmp_path), errand)
    done = subprocess.run(["sh", "-c", text], check=True, capture_output=True, text=True)
    left = sorted(path.name for path in releases.iterdir())
    assert left == [".8.stager", ".9.stager", ".v1.8-bb.unpacking", ".v1.9-cc.unpacking"]
    assert release_commands.read_path_state(done.stdout).stager == 5
