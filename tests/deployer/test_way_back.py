"""An automatic rollback that does not end well: what is said of the server is what was last done to it."""

import io
import json
import os
import secrets
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command

from deployer.board.sightings import board, refresh
from deployer.engine.routines import carry_out, settle_lost
from deployer.launching.again import launch_rollback, retry_failed
from deployer.models import Deployment, Release, Sighting, Target
from deployer.queue.sweep import take_over
from projects.models import Project
from servers.models import Server, ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.marks import rarely
from tests.parts.cue import Cue
from tests.parts.git import GitRepository
from tests.parts.programs import command_line, kill_all, wait_for_end, wait_until
from tests.parts.sshd import OpenSSHServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

#: Each server has its own word on how a restart ends there.
RESTART = 'echo "$DEPLOY_RELEASE" >>~/runs\n[ ! -e ~/rule ] || . ~/rule\n'


class Site:
    """Two servers of one project: ``one`` takes each release, ``two`` none but the first."""

    def __init__(self, one: OpenSSHServer, two: OpenSSHServer, repository: GitRepository, **values: Any) -> None:
        self.one, self.two, self.repository = one, two, repository
        repository.commit({"restart.sh": RESTART})
        self.group: ServerGroup = make_group(make_server(one, name="one"), make_server(two, name="two"))
        self.project: Project = make_project(
            name=f"way-back-{os.getpid()}",
            **{
                "git_url": repository.url,
                "deploy_path": "~/shop",
                "deploy_script_path": "restart.sh",
                "batches": "1, 100%",
                "auto_rollback": True,
                "script_timeout": 60,
            }
            | values,
        )

    def launched(self) -> Deployment:
        return make_deployment(self.project, self.group)

    def deployed(self) -> Deployment:
        return ended(self.launched())

    def first(self) -> str:
        """Deploy the first release to both; gives its version."""
        first = self.deployed()
        assert first.status == "success", first.error_message
        self.rule(self.two, f'[ "$DEPLOY_RELEASE" = {first.release} ]')
        self.repository.commit({"VERSION": "two"})
        return str(first.release)

    def rule(self, server: OpenSSHServer, text: str) -> None:
        (server.home / "rule").write_text(text + "\n")

    def live(self, server: OpenSSHServer) -> str:
        return (server.home / "shop" / "current").readlink().name

    def runs(self, server: OpenSSHServer) -> list[str]:
        return (server.home / "runs").read_text().split()


@pytest.fixture
def make_site(make_sshd: Callable[..., OpenSSHServer], git_repo: GitRepository) -> Any:
    sites: list[Site] = []

    def make(**values: Any) -> Site:
        sites.append(Site(make_sshd(), make_sshd(), git_repo, **values))
        return sites[-1]

    yield make
    for site in sites:
        for sshd in (site.one, site.two):
            kill_all([pid for pid in sshd.processes() if command_line(pid).startswith("sleep 7")])


def ended(deployment: Deployment) -> Deployment:
    assert carry_out(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


def target(deployment: Deployment, name: str = "one") -> Target:
    return deployment.targets.get(server_name=name)


def status(*words: str) -> tuple[int, dict[str, Any]]:
    """The exit status of the command, and what it says of server one."""
    out = io.StringIO()
    code = 0
    try:
        call_command("status", "--json", *words, stdout=out)
    except SystemExit as end:
        code = int(str(end.code))
    return code, next(row for row in map(json.loads, out.getvalue().splitlines()) if row["server"] == "one")


def test_a_server_that_had_succeeded_and_was_put_back_is_not_called_failed(make_site: Any, admin_client: Any) -> None:
    site = make_site()
    site.first()
    second = site.deployed()
    assert (target(second).status, target(second, "two").status) == ("rolled_back", "rolled_back")
    assert second.error_message.startswith("1 of 2 servers failed: two: ")
    assert "Rolled back: two" in second.error_message
    assert "Put back, having succeeded: one" in second.error_message
    why = "It had succeeded, and was put back because more servers failed than are allowed to."
    assert (target(second).reason, target(second, "two").reason) == (why, target(second, "two").error)
    assert admin_client.get(second.get_absolute_url()).content.decode().count(why) == 1


def test_a_rollback_whose_script_fails_is_a_failure_with_both_reasons_and_a_retry_takes_it(make_site: Any) -> None:
    site = make_site()
    first = site.first()
    site.rule(site.one, f'[ "$DEPLOY_RELEASE" != {first} ] || exit 3')
    second = site.deployed()
    version = str(second.release)
    it = target(second)
    assert (it.status, it.exit_code, it.release_before, it.release_after) == ("failed", 3, first, first)
    assert it.error.startswith("It had succeeded, but more servers failed than the failure budget allows; ")
    assert f"{first} is live again, but its rollback failed: " in it.error
    assert "ended with status 3" in it.error
    assert it.error in second.error_message
    assert second.status == "failed"
    assert "2 of 2 servers failed" in second.error_message
    assert "Done" not in second.error_message
    assert target(second, "two").status == "rolled_back"
    assert (site.live(site.one), site.runs(site.one)) == (first, [first, version, first])
    assert Release.objects.get(version=version).state == "bad"
    for words in ((), ("--look",)):
        code, seen = status(*words)
        assert (code, seen["deployment"], seen["status"], seen["error"]) == (1, second.pk, "failed", it.error)
        assert (seen["recorded"], seen["drift"]) == (first, [])
    (site.two.home / "rule").unlink()
    again = ended(retry_failed(second, created_by=None, trigger="cli"))
    assert {row.server_name: row.status for row in again.targets.all()} == {"one": "success", "two": "success"}
    assert (site.live(site.one), status("--look")[0]) == (version, 0)


@pytest.mark.every_case
def test_where_every_rollback_failed_the_release_is_bad_and_going_back_again_is_offered(make_site: Any) -> None:
    site = make_site()
    first = site.first()
    site.rule(site.one, f'[ "$DEPLOY_RELEASE" != {first} ] || exit 3')
    site.rule(site.two, "exit 4")
    second = site.deployed()
    assert [row.status for row in second.targets.all()] == ["failed", "failed"]
    two = target(second, "two")
    assert two.error.count("ended with status 4") == 2, "once for the restart, once for the rollback"
    assert Release.objects.get(version=str(second.release)).state == "bad"
    for server in (site.one, site.two):
        (server.home / "rule").unlink()
    back = ended(launch_rollback(second, created_by=None, trigger="cli"))
    assert (back.status, str(back.release)) == ("success", first)


def app(site: Site, number: int) -> str:
    """A restart of the one application of both servers; with a file ``stuck`` it does nothing."""
    home = site.one.home
    return (
        f"[ ! -e {home}/stuck ] || return 0\n"
        f'[ ! -s {home}/pid ] || kill "$(cat {home}/pid)" 2>/dev/null\n'
        f"[ -e {home}/gone ] || {{ nohup sleep 7{number}{os.getpid()} >/dev/null 2>&1 & echo $! >{home}/pid; }}\n"
    )


@pytest.mark.parametrize(
    ("flag", "verdict", "why"), [("stuck", "unchanged", "still runs"), ("gone", "dead", "No process matches")]
)
def test_a_rollback_is_proved_like_a_restart(make_site: Any, flag: str, verdict: str, why: str) -> None:
    site = make_site(process_name=f"sleep 78181{os.getpid()}")
    for server in (site.one, site.two):
        site.rule(server, app(site, 8181))
    first = site.deployed()
    assert first.status == "success", first.error_message
    site.repository.commit({"VERSION": "two"})
    site.rule(site.two, "exit 1")
    site.rule(site.one, f'[ "$DEPLOY_RELEASE" != {first.release} ] || touch ~/{flag}\n{app(site, 8181)}')
    second = site.deployed()
    it = target(second)
    assert (it.status, it.exit_code, it.proof["verdict"]) == ("failed", 0, verdict)
    assert why in it.error
    assert "It had succeeded" in it.error
    assert it.error in second.error_message
    refresh(site.project)
    (view,) = [view for view in board(site.project) if view.server.name == "one"]
    assert not any("somebody else" in remark or "not running" in remark for remark in view.drift)
    assert str(second.pk) in view.trouble


def test_a_rollback_that_is_not_healthy_is_a_failure(make_site: Any) -> None:
    site = make_site()
    first = site.first()
    site.project.health_checks.create(
        kind="command", target=f'[ "$(tail -n 1 ~/runs)" != {first} ] || {{ echo ill; exit 1; }}', retries=0
    )
    second = site.deployed()
    it = target(second)
    assert (it.status, it.exit_code, it.release_after) == ("failed", 0, first)
    assert "status 1: ill" in it.error


def test_a_rollback_that_somebody_ends_by_force_is_a_failure_that_says_so(make_site: Any) -> None:
    site = make_site()
    first = site.first()
    cue = Cue(site.one.home)
    site.rule(site.one, f'[ "$DEPLOY_RELEASE" != {first} ] || {{ {cue}; }}')
    second = site.launched()
    worker = threading.Thread(target=carry_out, args=[second.pk])
    worker.start()
    cue.wait()
    Deployment.objects.get(pk=second.pk).request_cancel(force=True)
    wait_for_end(worker)
    second.refresh_from_db()
    it = target(second)
    assert (second.status, it.status, it.exit_code, it.release_after) == ("cancelled", "failed", None, first)
    assert f"{first} is live again, but its rollback failed: " in it.error
    assert it.error in second.error_message
    assert "Done" not in second.error_message


@pytest.mark.parametrize("befalls", [OpenSSHServer.stop, rarely(OpenSSHServer.change_host_key)])
def test_a_rollback_whose_link_is_lost_is_unknown(make_site: Any, befalls: Callable[[OpenSSHServer], None]) -> None:
    site = make_site(script_timeout=5)
    first = site.first()
    cue = Cue(site.one.home)
    site.rule(site.one, f'[ "$DEPLOY_RELEASE" != {first} ] || {{ {cue}; }}')
    second = site.launched()
    worker = threading.Thread(target=carry_out, args=[second.pk])
    worker.start()
    cue.wait()
    befalls(site.one)
    wait_for_end(worker)
    cue.give()
    second.refresh_from_db()
    it = target(second)
    assert (second.status, it.status, it.exit_code, it.release_after) == ("failed", "unknown", None, first)
    assert f"{first} is live again, but its rollback failed: " in it.error
    assert it.error in second.error_message
    assert status()[1]["status"] == "unknown"


def test_a_rollback_to_a_release_that_was_deleted_brings_it_back(make_site: Any) -> None:
    site = make_site()
    first = site.first()
    site.rule(site.one, f'[ "$DEPLOY_RELEASE" = {first} ] || {{ rm -rf ~/shop/releases/{first}; exit 7; }}')
    it = target(site.deployed())
    assert (it.status, it.release_after, site.live(site.one)) == ("rolled_back", first, first)


def test_a_rollback_that_cannot_switch_back_says_what_is_still_live(make_site: Any) -> None:
    site = make_site()
    first = site.first()
    Release.objects.filter(version=first).update(archive="", manifest="")  # no longer stored: it cannot be sent again
    site.rule(site.one, f'[ "$DEPLOY_RELEASE" = {first} ] || rm -rf ~/shop/releases/{first}')
    second = site.deployed()
    it = target(second)
    assert (it.status, it.release_after, site.live(site.one)) == ("failed", str(second.release), str(second.release))
    assert f"rolling it back to {first} failed, and {second.release} is still live: " in it.error
    assert f"Release {first} cannot be sent: it is no longer stored" in it.error


def test_a_rollback_whose_restart_cannot_begin_says_that_the_old_release_is_live(make_site: Any) -> None:
    site = make_site()
    first = site.first()
    (site.one.home / "bin").mkdir(exist_ok=True)
    fifo = site.one.home / "bin" / "mkfifo"
    site.rule(site.one, f'[ "$DEPLOY_RELEASE" = {first} ] || {{ echo exit 1 >{fifo}; chmod +x {fifo}; }}')
    second = site.deployed()
    it = target(second)
    assert (it.status, it.exit_code, it.release_after, site.live(site.one)) == ("failed", None, first, first)
    assert f"{first} is live again, but its rollback failed: " in it.error
    assert "could not be started" in it.error
    assert site.runs(site.one) == [first, str(second.release)]


def test_a_server_without_a_previous_release_keeps_the_new_one_and_it_is_said(make_site: Any) -> None:
    site = make_site()
    site.rule(site.two, "exit 4")
    first = site.deployed()
    version = str(first.release)
    one, two = target(first), target(first, "two")
    stays = f"it has no previous release to go back to: {version} stays live"
    assert (one.status, one.exit_code, one.error) == ("success", 0, stays)
    assert (two.status, two.exit_code) == ("failed", 4)
    assert two.error.endswith(f"ended with status 4; {stays}")
    assert first.status == "failed"
    assert f"Done: one. one: {stays}." in first.error_message
    (site.two.home / "rule").unlink()
    again = ended(retry_failed(first, created_by=None, trigger="cli"))
    assert {row.server_name: row.status for row in again.targets.all()} == {"two": "success"}


def test_a_script_that_may_still_run_is_ended_before_the_server_is_rolled_back(make_site: Any) -> None:
    site = make_site(script_timeout=3, max_failures=0)
    first = site.first()
    (site.two.home / "rule").unlink()
    # The new release's script lives on behind a link that is gone until its time is over.
    nap = f"sleep 600{os.getpid()}"
    site.rule(
        site.one,
        f'if [ "$DEPLOY_RELEASE" != {first} ]; then touch ~/begun; {nap}\n'
        f'elif pgrep -f "{nap}" >/dev/null; then echo both >>~/runs; fi',
    )
    second = site.launched()
    worker = threading.Thread(target=carry_out, args=[second.pk])
    worker.start()
    wait_until((site.one.home / "begun").exists, "the script to begin")
    site.one.stop()
    wait_until(lambda: target(second).status == "unknown", "the server to be unknown")
    site.one.start()
    wait_for_end(worker)
    assert target(second).status == "rolled_back"
    assert site.runs(site.one) == [first, str(Deployment.objects.get(pk=second.pk).release), first]


def test_a_rollback_that_had_failed_is_not_tried_again_by_the_worker_that_takes_over(make_site: Any) -> None:
    site = make_site()
    first = site.first()
    site.rule(site.one, f'[ "$DEPLOY_RELEASE" != {first} ] || exit 3')
    second = site.deployed()
    runs, error = site.runs(site.one), target(second).error
    # As it is when the worker dies right before it writes the end.
    Deployment.objects.filter(pk=second.pk).update(status="deploying", finished_at=None)
    assert take_over(Deployment.objects.get(pk=second.pk), "was lost")
    assert settle_lost(second.pk)
    it = target(second)
    assert (it.status, it.error, site.runs(site.one)) == ("failed", error, runs)
    second.refresh_from_db()
    assert error in second.error_message


@pytest.mark.parametrize("reachable", [False, rarely(True)])
def test_a_rollback_whose_worker_is_lost_and_whose_script_fails_is_settled_as_a_failure(
    make_site: Any, reachable: bool
) -> None:
    site = make_site()
    first = site.first()
    site.rule(site.one, f'[ "$DEPLOY_RELEASE" != {first} ] || exit 3')
    second = site.deployed()
    version, it = str(second.release), target(second)
    # As it is when the worker dies after it has written that it goes back, and before it does so.
    (site.one.home / "shop" / "current").unlink()
    (site.one.home / "shop" / "current").symlink_to(f"releases/{version}")
    Target.objects.filter(pk=it.pk).update(
        status="success", error="", exit_code=0, release_after=version, undo_key=secrets.token_hex(16)
    )
    Deployment.objects.filter(pk=second.pk).update(status="deploying", finished_at=None)
    if not reachable:
        Server.objects.filter(name="one").update(port=1)
    assert take_over(Deployment.objects.get(pk=second.pk), "was lost")
    assert settle_lost(second.pk)
    it = target(second)
    second.refresh_from_db()
    assert it.error in second.error_message
    if reachable:
        assert (second.status, it.status, it.exit_code, it.release_after) == ("failed", "failed", 3, first)
        assert f"{first} is live again, but its rollback failed: " in it.error
        assert site.runs(site.one) == [first, version, first, first]
    else:
        assert (second.status, it.status, it.release_after) == ("interrupted", "unknown", version)
        assert f"how its rollback from {version} to {first} ended is not known: " in it.error


def test_a_restart_that_failed_is_not_taken_for_somebody_elses_doing(make_site: Any) -> None:
    site = make_site(process_name=f"sleep 78282{os.getpid()}", auto_rollback=False)
    for server in (site.one, site.two):
        site.rule(server, app(site, 8282))
    assert site.deployed().status == "success"
    site.rule(site.one, f"{app(site, 8282)}exit 5")
    failed = ended(make_deployment(site.project, site.group, deployment_type="restart_only"))
    assert target(failed).status == "failed"
    refresh(site.project)
    (view,) = [view for view in board(site.project) if view.server.name == "one"]
    assert view.drift == []
    assert "ended with status 5" in view.trouble
    Sighting.objects.all().delete()
    assert status()[0] == 1
