"""Steps around the switch, on real SSH servers: each runs once, and what it did is true whatever befalls it."""

import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from deployer.engine.routines import carry_out, settle_lost
from deployer.launching.again import launch_rollback, retry_failed
from deployer.models import Deployment, StepRun, Target
from deployer.queue.sweep import take_over
from projects.commands.service import derived_process_name
from projects.models import ConfigFile, Project
from servers.models import ServerGroup
from tests.deployer.test_lost_together import lose_at
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.marks import rarely
from tests.parts.cue import Cue
from tests.parts.git import GitRepository
from tests.parts.programs import kill_all, processes_running, wait_for_end, wait_until
from tests.parts.sshd import OpenSSHServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

#: What a step and the script write down of themselves, all in one file.
WRITES = 'echo "$DEPLOY_SERVER $DEPLOY_STEP $DEPLOY_ACTION" >>"$LEDGER"'
RESTART = 'echo " restart" >>"$LEDGER"; [ ! -e ~/rule ] || . ~/rule\n'
EACH = ("prepare", "before_all", "before", "after", "after_all")


class Site:
    """Two servers of one project that has a step at each moment, unless said otherwise."""

    def __init__(self, one: OpenSSHServer, two: OpenSSHServer, repository: GitRepository, **values: Any) -> None:
        self.one, self.two, self.repository = one, two, repository
        self.file = repository.path.parent / "ledger"
        repository.commit({"restart.sh": RESTART})
        self.group: ServerGroup = make_group(make_server(one, name="one"), make_server(two, name="two"))
        self.project: Project = make_project(
            **{
                "name": f"steps-{os.getpid()}",
                "git_url": repository.url,
                "deploy_path": "~/shop",
                "deploy_script_path": "restart.sh",
                "batches": "1, 100%",
                "may_stop_last_healthy": True,
                "script_timeout": 60,
            }
            | values,
        )
        self.project.variables.create(name="LEDGER", value=str(self.file))

    def step(self, moment: str, script: str = "", name: str = "", **values: Any) -> None:
        """A step that writes itself down, then runs ``script``."""
        text = f"{WRITES}\n{script}"
        values = {"moment": moment, "name": name or moment, "script": text, "timeout": 60} | values
        self.project.steps.update_or_create(name=values.pop("name"), defaults=values)

    def steps(self, *moments: str) -> None:
        for moment in moments or EACH:
            self.step(moment)

    def launched(self, deployment_type: str = "full", **values: Any) -> Deployment:
        return make_deployment(self.project, self.group, deployment_type=deployment_type, **values)

    def deployed(self, deployment_type: str = "full", **values: Any) -> Deployment:
        self.file.write_text("")
        return ended(self.launched(deployment_type, **values))

    def next(self) -> None:
        """Commit what the next deployment brings."""
        self.repository.commit({"VERSION": os.urandom(8).hex()})

    @property
    def ledger(self) -> list[str]:
        return self.file.read_text().splitlines()

    def live(self, server: OpenSSHServer) -> str:
        link = server.home / "shop" / "current"
        return link.readlink().name if link.is_symlink() else ""


@pytest.fixture
def make_site(make_sshd: Callable[..., OpenSSHServer], git_repo: GitRepository) -> Any:
    sites: list[Site] = []

    def make(**values: Any) -> Site:
        sites.append(Site(make_sshd(), make_sshd(), git_repo, **values))
        return sites[-1]

    yield make
    for site in sites:
        for sshd in (site.one, site.two):
            kill_all(sshd.processes())


def ended(deployment: Deployment) -> Deployment:
    assert carry_out(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


def again(deployment: Deployment) -> Deployment:
    return ended(retry_failed(deployment, created_by=None, trigger="cli"))


def target(deployment: Deployment, name: str = "one") -> Target:
    return deployment.targets.get(server_name=name)


def ends(deployment: Deployment) -> list[str]:
    return [row.status for row in deployment.targets.order_by("server_name")]


def runs(deployment: Deployment, **where: Any) -> list[tuple[str, str, str]]:
    rows = deployment.step_runs.filter(**where)
    return [(row.target.server_name if row.target else "", row.step, row.status) for row in rows]


def begun(deployment: Deployment) -> threading.Thread:
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    return worker


@pytest.mark.every_case
def test_each_step_runs_at_its_moment(make_site: Any) -> None:
    site = make_site()
    site.steps()
    deployment = site.deployed()
    assert deployment.status == "success", deployment.error_message
    prepared, rest = site.ledger[:2], site.ledger[2:]
    assert sorted(prepared) == ["one prepare deploy", "two prepare deploy"]
    assert rest == [
        "one before_all deploy",
        *("one before deploy", " restart", "one after deploy"),
        *("two before deploy", " restart", "two after deploy"),
        "one after_all deploy",
    ]
    assert {status for _server, _step, status in runs(deployment)} == {"done"}
    assert not Target.objects.exclude(kept_out="").exists()


def test_a_restart_runs_the_steps_around_it_alone(make_site: Any) -> None:
    site = make_site()
    site.deployed()
    site.steps()
    deployment = site.deployed("restart_only")
    assert deployment.status == "success", deployment.error_message
    assert site.ledger == [
        *("one before restart", " restart", "one after restart"),
        *("two before restart", " restart", "two after restart"),
        "one after_all restart",
    ]


def test_a_step_may_be_for_other_launches_than_is_usual(make_site: Any) -> None:
    site = make_site()
    site.deployed()
    site.step("before_all", types=["restart_only"])
    site.step("after", types=["full"])
    assert site.deployed("restart_only").status == "success"
    assert site.ledger == ["one before_all restart", " restart", " restart"]


def test_a_step_knows_where_it_runs_and_what_is_done(make_site: Any) -> None:
    site = make_site(batches="100%")
    first = site.deployed()
    site.next()
    for moment in EACH:
        site.step(moment, f"env >~/{moment}.env; pwd -P >~/{moment}.pwd")
    second = site.deployed()
    assert second.status == "success", second.error_message
    for moment in EACH:
        env = dict(line.partition("=")[::2] for line in (site.one.home / f"{moment}.env").read_text().splitlines())
        assert (env["DEPLOY_STEP"], env["DEPLOY_SERVER"], env["DEPLOY_BATCH"]) == (moment, "one", "1")
        assert (env["DEPLOY_RELEASE"], env["DEPLOY_PREVIOUS"]) == (str(second.release), str(first.release))
        assert (env["DEPLOY_ID"], env["DEPLOY_TYPE"], env["DEPLOY_ACTION"]) == (str(second.pk), "full", "deploy")
        assert env["DEPLOY_COMMIT"] == second.commit_hash
        assert env["DEPLOY_SERVERS"] == "one", "and two in its own line"
        folder = site.one.home / "shop" / "releases" / str(second.release)
        assert (site.one.home / f"{moment}.pwd").read_text().strip() == str(folder.resolve())


@pytest.mark.parametrize("script", ["exit 3", "false\ntrue", "false | true", "no-such-program"])
def test_before_all_that_fails_switches_nothing_anywhere(make_site: Any, script: str) -> None:
    site = make_site()
    site.deployed()
    before = [site.live(site.one), site.live(site.two)]
    site.next()
    site.steps("before", "after", "after_all")
    site.step("before_all", script)
    site.step("after_all", when="failure", name="tell")
    deployment = site.deployed()
    assert (deployment.status, ends(deployment)) == ("failed", ["skipped", "skipped"])
    assert "Step “Before all: before_all” ended with status " in deployment.error_message
    assert [site.live(site.one), site.live(site.two)] == before
    assert site.ledger == ["one before_all deploy", "one tell deploy"]


def test_before_all_that_is_not_required_only_warns(make_site: Any) -> None:
    site = make_site()
    site.step("before_all", "exit 3", required=False)
    deployment = site.deployed()
    assert deployment.status == "success"
    assert deployment.log_lines.filter(level="warning", content__contains="ended with status 3").exists()


def test_before_all_goes_to_the_next_server_where_the_first_cannot_be_reached(make_site: Any) -> None:
    site = make_site(max_failures=1)
    site.steps("before_all")
    site.one.stop()
    deployment = site.deployed()
    assert ends(deployment) == ["failed", "success"]
    assert site.ledger == ["two before_all deploy", " restart"]


def test_before_all_that_has_begun_goes_to_no_other_server(make_site: Any) -> None:
    site = make_site(max_failures=2)
    cue = Cue(site.one.home)
    site.step("before_all", str(cue), timeout=6)
    deployment = site.launched()
    site.file.write_text("")
    worker = begun(deployment)
    cue.wait()
    site.one.stop()
    wait_for_end(worker)
    cue.give()
    deployment.refresh_from_db()
    assert (deployment.status, ends(deployment)) == ("failed", ["skipped", "skipped"])
    assert "How step “Before all: before_all” ended is not known: " in deployment.error_message
    assert site.ledger == ["one before_all deploy"]
    assert (site.live(site.one), site.live(site.two)) == ("", "")


def test_a_step_outlives_its_link(make_site: Any) -> None:
    site = make_site()
    cue = Cue(site.one.home)
    site.step("before_all", f"echo begun; {cue}; echo ended")
    deployment = site.launched()
    worker = begun(deployment)
    cue.wait()
    site.one.drop_links()
    cue.give()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert deployment.status == "success", deployment.error_message
    lines = target(deployment).log_lines.filter(stream="stdout").values_list("content", flat=True)
    assert [line for line in lines if line in {"begun", "ended"}] == ["begun", "ended"]
    assert site.ledger.count("one before_all deploy") == 1


@pytest.mark.parametrize("moment", ["before", *(rarely(moment) for moment in EACH if moment != "before")])
def test_a_step_whose_worker_is_lost_is_followed_and_never_run_again(make_site: Any, moment: str) -> None:
    site = make_site()
    site.deployed()
    before = site.live(site.one)
    site.next()
    site.steps()
    cue = Cue(site.one.home)
    site.step(moment, f'[ "$DEPLOY_SERVER" = two ] || {{ echo begun; {cue}; echo ended; }}')
    site.file.write_text("")
    deployment = site.launched()
    worker = begun(deployment)
    cue.wait()
    wait_until(lambda: deployment.log_lines.filter(content="begun").exists(), "its output")
    assert take_over(Deployment.objects.get(pk=deployment.pk), "was lost")
    wait_for_end(worker)
    cue.give()
    assert settle_lost(deployment.pk)
    deployment.refresh_from_db()
    assert site.ledger.count(f"one {moment} deploy") == 1
    assert deployment.step_runs.get(step=moment, target__server_name="one").status == "done"
    lines = target(deployment).log_lines.filter(stream="stdout").values_list("content", flat=True)
    assert [line for line in lines if line in {"begun", "ended"}] == ["begun", "ended"]
    if moment in {"prepare", "before_all", "before"}:
        assert (site.live(site.one), site.live(site.two)) == (before, before), "nothing was switched"
        assert ends(deployment) == ["skipped", "skipped"]
    elif moment == "after":
        assert ends(deployment) == ["success", "skipped"]
    else:
        assert (deployment.status, ends(deployment)) == ("success", ["success", "success"])
    assert site.ledger.count("one after deploy") == (moment not in {"prepare", "before_all"})
    assert not Target.objects.exclude(kept_out="").exists()


def test_a_step_that_was_written_down_and_not_begun_is_not_begun_by_who_takes_over(make_site: Any) -> None:
    site = make_site()
    site.steps("before_all", "after_all")
    deployment = site.deployed()
    site.file.write_text("")
    # As it is when the worker dies after it has written the step down, and before it says so to the server.
    deployment.step_runs.exclude(moment="before_all").delete()
    deployment.step_runs.update(status="running", key=secrets.token_hex(16), exit_code=None, finished_at=None)
    deployment.targets.update(status="staged", exit_code=None, begun_at=None, finished_at=None)
    Deployment.objects.filter(pk=deployment.pk).update(status="deploying", finished_at=None)
    assert take_over(Deployment.objects.get(pk=deployment.pk), "was lost")
    assert settle_lost(deployment.pk)
    settled = Deployment.objects.get(pk=deployment.pk)
    assert (deployment.step_runs.get().status, settled.status) == ("skipped", "failed")
    assert ends(settled) == ["skipped", "skipped"]
    assert site.ledger == []


def test_a_retry_does_not_repeat_what_was_done_for_the_same_release(make_site: Any) -> None:
    site = make_site()
    site.steps("before_all", "before", "after")
    (site.one.home / "rule").write_text("exit 4\n")
    first = site.deployed()
    assert first.status == "failed"
    (site.one.home / "rule").unlink()
    second = again(first)
    assert second.status == "success", second.error_message
    assert site.ledger.count("one before_all deploy") == 1
    assert site.ledger.count("one before deploy") == 2
    told = f"Step “before_all” is not repeated: #{first.pk} has done it for {first.release}."
    assert second.log_lines.filter(content=told).exists()


@pytest.mark.every_case
def test_a_retry_repeats_a_step_before_all_that_failed_or_was_changed(make_site: Any) -> None:
    site = make_site()
    site.step("before_all", "exit 1")
    site.step("before_all", name="second")
    first = site.deployed()
    site.step("before_all", "true")
    second = again(first)
    assert second.status == "success", second.error_message
    assert site.ledger.count("one before_all deploy") == 2
    assert site.ledger.count("one second deploy") == 1


def test_the_steps_after_come_however_the_turn_ends(make_site: Any) -> None:
    site = make_site(max_failures=2)
    site.steps("before", "after")
    (site.one.home / "rule").write_text("exit 4\n")
    deployment = site.deployed()
    assert ends(deployment) == ["failed", "success"]
    assert site.ledger[:3] == ["one before deploy", " restart", "one after deploy"]
    assert not Target.objects.exclude(kept_out="").exists()


def test_a_server_whose_step_before_fails_is_not_switched_and_gets_its_after(make_site: Any) -> None:
    site = make_site(max_failures=2)
    site.step("before", '[ "$DEPLOY_SERVER" = two ]')
    site.steps("after")
    deployment = site.deployed()
    assert ends(deployment) == ["failed", "success"]
    assert "Step “Before: before” ended with status 1" in target(deployment).error
    assert site.live(site.one) == ""
    assert site.ledger[:2] == ["one before deploy", "one after deploy"]


def test_a_cancelled_server_gets_its_after(make_site: Any) -> None:
    site = make_site()
    nap = f"sleep 7{os.getpid()}1"
    site.step("before", nap)
    site.steps("after")
    deployment = site.launched()
    worker = begun(deployment)
    wait_until(lambda: processes_running(nap), "the step to run")
    deployment.request_cancel()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert (deployment.status, ends(deployment)) == ("cancelled", ["cancelled", "cancelled"])
    assert processes_running(nap) == []
    assert site.ledger == ["one before deploy", "one after deploy"]
    assert site.live(site.one) == ""


@pytest.mark.parametrize("moment", ["prepare", "before_all"])
def test_a_cancel_ends_a_step_with_its_processes(make_site: Any, moment: str) -> None:
    site = make_site()
    nap = f"sleep 7{os.getpid()}2"
    site.step(moment, f"setsid {nap} & wait")
    deployment = site.launched()
    worker = begun(deployment)
    wait_until(lambda: processes_running(nap), "the step to run")
    deployment.request_cancel()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert deployment.status == "cancelled"
    assert processes_running(nap) == []
    assert site.live(site.one) == ""


def test_a_step_that_takes_too_long_is_ended_and_names_the_field(make_site: Any) -> None:
    site = make_site()
    nap = f"sleep 7{os.getpid()}3"
    site.step("before_all", nap, timeout=1)
    deployment = site.deployed()
    assert "ran longer than its limit of 1 seconds and was ended. Raise its timeout" in deployment.error_message
    assert processes_running(nap) == []


def test_a_server_whose_service_died_stays_out_and_it_is_said(make_site: Any) -> None:
    nap = f"sleep 7{os.getpid()}4"
    site = make_site(process_name=nap, max_failures=2)
    site.steps("before", "after")
    start = f"nohup {nap} >/dev/null 2>&1 &\n"
    (site.one.home / "rule").write_text(f"pkill -f '^{nap}'; true\n")
    (site.two.home / "rule").write_text(start)
    deployment = site.deployed()
    assert target(deployment).status == "failed"
    assert "one after deploy" not in site.ledger
    assert target(deployment).kept_out == "Its service is dead: the steps after are not run."
    kill_all(processes_running(nap))
    (site.one.home / "rule").write_text(start)
    ended(make_deployment(site.project, site.group, deployment_type="restart_only"))
    assert "one after restart" in site.ledger
    assert not Target.objects.exclude(kept_out="").exists()


def test_a_namesake_that_goes_keeps_no_server_out_where_the_name_is_derived(make_site: Any) -> None:
    """The project has named no process: what has its name, and is gone after the restart, may be another one's."""
    site = make_site()
    site.steps("before", "after")
    namesake = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", site.project.name])
    (site.one.home / "rule").write_text(f"kill {namesake.pid}\n")
    wait = threading.Thread(target=namesake.wait)  # so that it is gone, and not only ended
    wait.start()
    deployment = site.deployed()
    wait_for_end(wait)
    assert ends(deployment) == ["success", "success"], deployment.error_message
    name = derived_process_name(site.project.name)
    assert deployment.log_lines.filter(content=f"No process matches “{name}” after the restart.").exists()
    assert "one after deploy" in site.ledger
    assert target(deployment).kept_out == ""


def test_a_failing_step_after_fails_the_server_and_keeps_it_out(make_site: Any) -> None:
    site = make_site()
    site.steps("before")
    site.step("after", "exit 2")
    deployment = site.deployed()
    assert ends(deployment) == ["failed", "skipped"]
    assert "Step “After: after” ended with status 2." in target(deployment).error
    assert "Step “After: after” ended with status 2." in target(deployment).kept_out
    assert site.live(site.one) == str(deployment.release)


@pytest.mark.parametrize(("required", "status"), [(True, "failed"), (False, "success")])
def test_after_all_that_fails_is_a_failure_where_it_is_required_and_else_a_warning(
    make_site: Any, required: bool, status: str
) -> None:
    site = make_site()
    site.step("after_all", "exit 6", required=required)
    deployment = site.deployed()
    assert (deployment.status, ends(deployment)) == (status, ["success", "success"])
    assert "Step “After all: after_all” ended with status 6." in deployment.error_message
    assert deployment.error_message.startswith("With warnings: ") is not required


def test_after_all_hides_no_earlier_reason(make_site: Any) -> None:
    site = make_site()
    (site.one.home / "rule").write_text("exit 4\n")
    site.step("after_all", "exit 6", when="always")
    deployment = site.deployed()
    assert deployment.error_message.index("ended with status 4") < deployment.error_message.index("status 6")


def test_a_server_that_is_put_back_gets_its_after_then(make_site: Any) -> None:
    site = make_site(auto_rollback=True, batches="100%")
    first = site.deployed()
    site.next()
    site.steps("before", "after")
    (site.two.home / "rule").write_text(f'[ "$DEPLOY_RELEASE" = {first.release} ] || exit 4\n')
    second = site.deployed()
    assert ends(second) == ["rolled_back", "rolled_back"]
    one = [line for line in site.ledger if line.startswith("one ")]
    two = [line for line in site.ledger if line.startswith("two ")]
    assert one == ["one before deploy", "one after deploy", "one after undo"]
    assert two == ["two before deploy", "two after undo"]
    assert not Target.objects.exclude(kept_out="").exists()


def test_a_release_that_is_sent_again_for_a_rollback_is_prepared_again(make_site: Any) -> None:
    site = make_site(batches="100%")
    site.step("prepare", "touch prepared")
    first = site.deployed()
    site.next()
    second = site.deployed()
    shutil.rmtree(site.two.home / "shop" / "releases" / str(first.release))
    site.file.write_text("")
    back = ended(launch_rollback(second, created_by=None, trigger="cli"))
    assert (back.status, site.live(site.two)) == ("success", str(first.release))
    assert site.ledger == ["two prepare rollback", " restart", " restart"]
    for server in (site.one, site.two):
        assert (server.home / "shop" / "current" / "prepared").exists()


def test_a_release_that_is_sent_again_to_put_a_server_back_is_prepared_again(make_site: Any) -> None:
    site = make_site(auto_rollback=True, batches="100%")
    site.step("prepare", "touch prepared")
    first = site.deployed()
    site.next()
    site.step("before", '[ "$DEPLOY_SERVER" = two ] || rm -rf ~/"shop/releases/$DEPLOY_PREVIOUS"')
    for server in (site.one, site.two):
        (server.home / "rule").write_text(f'[ "$DEPLOY_RELEASE" = {first.release} ] || exit 4\n')
    second = site.deployed()
    assert ends(second) == ["rolled_back", "rolled_back"], target(second).error
    assert site.ledger.count("one prepare undo") == 1
    assert "two prepare undo" not in site.ledger
    for server in (site.one, site.two):
        assert site.live(server) == str(first.release)
        assert (server.home / "shop" / "current" / "prepared").exists()


@pytest.mark.every_case
def test_an_automatic_rollback_takes_back_what_was_done_before_all(make_site: Any) -> None:
    site = make_site(auto_rollback=True)
    first = site.deployed()
    site.next()
    site.step("before_all", undone_by=f"{WRITES}; pwd -P >~/undone; echo $DEPLOY_RELEASE $DEPLOY_PREVIOUS >>~/undone")
    (site.one.home / "rule").write_text(f'[ "$DEPLOY_RELEASE" = {first.release} ] || exit 4\n')
    second = site.deployed()
    assert ends(second) == ["rolled_back", "skipped"]
    assert site.ledger == ["one before_all deploy", " restart", " restart", "one before_all undo"]
    folder, releases = (site.one.home / "undone").read_text().splitlines()
    assert folder.endswith(f"/releases/{second.release}")
    assert releases.split() == [str(second.release), str(first.release)]
    (site.one.home / "rule").unlink()
    third = again(second)
    assert third.status == "success"
    assert site.ledger.count("one before_all deploy") == 2, "it was taken back: it has to be done again"


def test_a_rollback_takes_back_what_was_done_since_the_newest_first(make_site: Any) -> None:
    site = make_site()
    first = site.deployed()
    for name in ("a", "b"):
        site.next()
        site.project.steps.all().delete()
        site.step("before_all", name=name, undone_by=WRITES)
        last = site.deployed()
        assert last.status == "success", last.error_message
    site.file.write_text("")
    back = ended(
        make_deployment(site.project, site.group, release=first.release, branch=first.commit_hash, rollback_from=last)
    )
    assert back.status == "success", back.error_message
    assert site.ledger == [" restart", " restart", "one b undo", "one a undo"]


def test_what_nothing_takes_back_is_said_by_a_rollback(make_site: Any) -> None:
    site = make_site()
    site.deployed()
    site.next()
    site.step("before_all")
    second = site.deployed()
    back = ended(launch_rollback(second, created_by=None, trigger="cli"))
    assert back.status == "success"
    told = f"Nothing takes back step “before_all” of #{second.pk}: it stays done."
    assert back.log_lines.filter(level="warning", content=told).exists()


def test_a_server_under_two_names_is_prepared_once(make_site: Any) -> None:
    site = make_site()
    site.steps("prepare", "before", "after")
    site.group.servers.add(make_server(site.one, name="same", host="localhost"))
    deployment = site.deployed()
    assert set(ends(deployment)) == {"success"}, deployment.error_message
    assert [line for line in site.ledger if line.startswith("two")] == [
        "two prepare deploy",
        "two before deploy",
        "two after deploy",
    ]
    assert len([line for line in site.ledger if "prepare" in line]) == 2


def test_editing_a_step_changes_no_deployment_that_was_launched(make_site: Any) -> None:
    site = make_site()
    site.step("before_all")
    deployment = site.launched()
    site.step("before_all", "exit 1")
    site.file.write_text("")
    assert ended(deployment).status == "success"


def test_without_steps_nothing_is_written_down(make_site: Any) -> None:
    site = make_site()
    assert site.deployed().status == "success"
    assert not StepRun.objects.exists()


@pytest.mark.every_case
def test_a_drained_server_is_put_back_by_its_steps_after_alone(make_site: Any, admin_client: Any) -> None:
    site = make_site(max_failures=2)
    site.steps("before", "after_all")
    site.step("after", "[ -e ~/mended ]", types=["full"])
    (site.two.home / "mended").touch()
    deployment = site.deployed()
    drained = target(deployment)
    assert "ended with status 1" in drained.kept_out
    assert "one is still drained" in admin_client.get("/activity/").content.decode()
    assert "one is still drained" in admin_client.get(deployment.get_absolute_url()).content.decode()
    (site.one.home / "mended").touch()
    address = f"{deployment.get_absolute_url()}drained/"
    assert "Put it back" in admin_client.get(address).content.decode()
    site.file.write_text("")
    answer = admin_client.post(address, {"target": drained.pk})
    back = Deployment.objects.order_by("pk").last()
    assert back is not None
    assert answer["Location"] == back.get_absolute_url()
    back = ended(back)
    assert (back.status, ends(back)) == ("success", ["success"]), back.error_message
    assert site.ledger == ["one after restart"]
    assert not Target.objects.exclude(kept_out="").exists()
    assert "still drained" not in admin_client.get("/activity/").content.decode()


def test_a_drained_server_may_be_left(make_site: Any, admin_client: Any) -> None:
    site = make_site()
    site.steps("before")
    site.step("after", "exit 1")
    deployment = site.deployed()
    admin_client.post(f"{deployment.get_absolute_url()}drained/", {"target": target(deployment).pk, "leave": ""})
    assert not Target.objects.exclude(kept_out="").exists()


def test_a_step_after_that_only_warns_and_fails_leaves_the_server_called_drained(make_site: Any) -> None:
    site = make_site()
    site.steps("before")
    site.step("after", "exit 2", required=False)
    deployment = site.deployed()
    assert (deployment.status, ends(deployment)) == ("success", ["success", "success"])
    assert "ended with status 2" in target(deployment).kept_out


@pytest.mark.parametrize(
    "moment",
    ["before", rarely("before_all"), rarely("after_all")],
)
def test_a_step_whose_server_cannot_be_asked_by_who_takes_over_is_unknown(make_site: Any, moment: str) -> None:
    site = make_site()
    site.steps()
    cue = Cue(site.one.home)
    site.step(moment, f'[ "$DEPLOY_SERVER" = two ] || {{ {cue}; }}')
    deployment = site.launched()
    site.file.write_text("")
    worker = begun(deployment)
    cue.wait()
    assert take_over(Deployment.objects.get(pk=deployment.pk), "was lost")
    wait_for_end(worker)
    site.one.stop()
    assert settle_lost(deployment.pk)
    cue.give()
    run = deployment.step_runs.get(step=moment, target__server_name="one")
    assert run.status == "unknown"
    assert "is not known" in run.problem
    assert site.ledger.count(f"one {moment} deploy") == 1
    assert f"two {moment} deploy" not in site.ledger or moment == "before"
    assert bool(target(deployment).kept_out) == (moment == "before")


def test_what_takes_a_step_back_that_was_done_for_no_release_is_run_and_not_the_step_again(make_site: Any) -> None:
    site = make_site(deploy_path="", deploy_script_path="", restart_script=RESTART, auto_rollback=True)
    ConfigFile.objects.create(project=site.project, path="~/shop.conf", content="new")
    site.step("before_all", "echo did >>$LEDGER", types=["restart_only"], undone_by=f"{WRITES}; echo undid >>$LEDGER")
    (site.one.home / "rule").write_text("[ ! -e ~/shop.conf ] || exit 4\n")
    deployment = site.deployed("restart_only")
    assert ends(deployment) == ["rolled_back", "skipped"], deployment.error_message
    assert site.ledger == ["one before_all restart", "did", " restart", " restart", "one before_all undo", "undid"]


@pytest.mark.parametrize("kind", ["automatic", rarely("launched")])
def test_who_takes_over_finishes_to_take_back_what_was_done_before_all(
    make_site: Any, monkeypatch: pytest.MonkeyPatch, queue_server: Any, kind: str
) -> None:
    site = make_site(auto_rollback=True)
    first = site.deployed()
    site.next()
    site.step("before_all", undone_by=WRITES)
    rule = site.one.home / "rule"
    if kind == "automatic":
        rule.write_text(f'[ "$DEPLOY_RELEASE" = {first.release} ] || exit 4\n')
        it = site.launched()
    else:
        it = site.deployed()
        it = launch_rollback(it, created_by=None, trigger="cli")
    site.file.write_text("")
    it = lose_at(monkeypatch, "deployer.engine.around.undo_before_all", it)
    assert site.ledger.count("one before_all undo") == 1
    assert site.ledger[-1] == "one before_all undo"
    assert it.step_runs.get(undoes=True).status == "done"
    assert ends(it) == (["rolled_back", "skipped"] if kind == "automatic" else ["success", "success"])
