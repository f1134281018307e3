"""Steps on the platform itself, beside real builds and real SSH servers: once, isolated, and never on a server."""

import secrets
from typing import Any

import pytest
from django.conf import settings as configured

from deployer.engine.routines import carry_out, resume, settle_lost
from deployer.launching.again import launch_rollback
from deployer.launching.moves import answer, cancel
from deployer.models import Deployment, StepRun
from deployer.queue.sweep import take_over
from deployer.releases.isolation import isolation
from tests.deployer.test_steps import Site, again, begun, ended, ends, make_site
from tests.factories import make_user
from tests.parts.programs import processes_running, wait_for_end, wait_until

__all__ = ["make_site"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

PLATFORM = ("prepare", "before_all", "after_all")
#: What a step prints of itself: the log is all that it can write to.
TELLS = 'echo "here: $DEPLOY_STEP $DEPLOY_ACTION"'


def step(site: Site, moment: str, script: str = "", name: str = "", **values: Any) -> None:
    """A step on the platform that prints a line, then runs ``script``."""
    values = {"moment": moment, "kind": "platform", "script": f"{TELLS}\n{script}", "timeout": 60} | values
    site.project.steps.update_or_create(name=name or moment, defaults=values)


def lines(deployment: Deployment, begin: str = "here: ") -> list[str]:
    """What steps on the platform have printed, without a server."""
    contents = deployment.log_lines.filter(target=None).order_by("id").values_list("content", flat=True)
    return [content.removeprefix(begin) for content in contents if content.startswith(begin)]


def said(deployment: Deployment) -> str:
    return "\n".join(deployment.log_lines.order_by("id").values_list("content", flat=True))


def statuses(deployment: Deployment) -> dict[str, str]:
    return dict(deployment.step_runs.filter(target=None).values_list("step", "status"))


def shown(deployment: Deployment, of: str) -> dict[str, str]:
    """The variables that a step has printed with its own name before each."""
    return dict(line.partition("=")[::2] for line in lines(deployment, f"{of}:"))


def test_each_runs_once_at_its_moment_and_never_on_a_server(make_site: Any) -> None:
    site = make_site()
    site.steps("before_all", "after_all")
    step(site, "prepare")
    step(site, "before_all", name="first", position=0)
    site.project.steps.filter(name="before_all").update(position=1)
    step(site, "before_all", name="last", position=2)
    step(site, "after_all", name="call")
    it = site.deployed()
    assert it.status == "success", it.error_message
    assert lines(it) == ["prepare deploy", "first deploy", "last deploy", "call deploy"]
    assert statuses(it) == {"prepare": "done", "first": "done", "last": "done", "call": "done"}
    assert not any(name in line for line in site.ledger for name in ("prepare", "first", "last", "call"))
    log = said(it)
    order = [
        "— Prepare, on the platform: prepare —",
        "— Before all, on the platform: first —",
        "— Before all: before_all —",
    ]
    order += [
        "— Before all, on the platform: last —",
        "— After all: after_all —",
        "— After all, on the platform: call —",
    ]
    assert sorted(order, key=log.index) == order
    assert log.index(order[0]) < log.index("Built ") < log.index(order[1]) < log.index("Batch 1 of 2")


def test_prepare_has_the_built_tree_and_the_variables_of_the_build(make_site: Any) -> None:
    site = make_site(build_script="echo map >app.map")
    site.project.variables.create(name="TOKEN", value="sesame-sesame", scope="build", is_secret=True)
    site.project.variables.create(name="ONLY_THERE", value="x", scope="deploy")
    step(site, "prepare", 'cat app.map; rm app.map; echo bad >restart.sh; echo $TOKEN; env | sed "s/^/prepare:/"')
    first = site.deployed()
    assert first.status == "success", first.error_message
    log = said(first)
    assert "\nmap\n" in log
    assert "sesame" not in log
    env = shown(first, "prepare")
    assert (env["DEPLOY_RELEASE"], env["DEPLOY_COMMIT"]) == (str(first.release), first.commit_hash)
    assert (env["DEPLOY_ID"], env["DEPLOY_TYPE"], env["DEPLOY_ACTION"]) == (str(first.pk), "full", "deploy")
    assert (env["DEPLOY_STEP"], env["DEPLOY_PREVIOUS"]) == ("prepare", "")
    assert "ONLY_THERE" not in env
    assert "DEPLOY_SERVER" not in env
    live = site.one.home / "shop" / "current"
    assert (live / "app.map").read_text() == "map\n", "it was packed before"
    assert "bad" not in (live / "restart.sh").read_text()


def test_it_is_not_prepared_where_a_release_is_used_again(make_site: Any) -> None:
    site = make_site()
    step(site, "prepare")
    first, second = site.deployed(), site.deployed()
    assert (lines(first), lines(second), second.release) == (["prepare deploy"], [], first.release)
    told = f"Step “Prepare, on the platform: prepare” is not run: nothing was built, {first.release} is used again."
    assert told in said(second)


def test_prepare_that_fails_ends_it_and_the_next_one_builds_again(make_site: Any) -> None:
    site = make_site()
    step(site, "prepare", "exit 4")
    first = site.deployed()
    assert (first.status, ends(first), first.release) == ("failed", ["skipped", "skipped"], None)
    assert "Step “Prepare, on the platform: prepare” ended with status 4." in first.error_message
    assert not (site.one.home / "shop" / "current").exists()
    step(site, "prepare")
    second = again(first)
    assert (second.status, lines(second)) == ("success", ["prepare deploy"]), second.error_message


def test_before_all_has_an_empty_folder_and_the_values_of_all_servers(make_site: Any) -> None:
    site = make_site()
    first = site.deployed()
    site.next()
    site.project.variables.create(name="EVERYWHERE", value="yes", scope="deploy")
    site.project.variables.create(name="BUILD_ONLY", value="x", scope="build")
    site.project.variables.create(name="EVERYWHERE", value="no", scope="deploy", server=site.group.servers.first())
    for moment in ("before_all", "after_all"):
        step(site, moment, f'echo "files: $(ls -A)"; env | sed "s/^/{moment}:/"')
    second = site.deployed()
    assert second.status == "success", second.error_message
    assert lines(second, "files: ") == ["", ""]
    for moment in ("before_all", "after_all"):
        env = shown(second, moment)
        assert (env["EVERYWHERE"], env["DEPLOY_STEP"]) == ("yes", moment)
        assert (env["DEPLOY_RELEASE"], env["DEPLOY_PREVIOUS"]) == (str(second.release), str(first.release))
        assert env["DEPLOY_COMMIT"] == second.commit_hash
        assert not env.keys() & {"BUILD_ONLY", "DEPLOY_SERVER", "DEPLOY_PATH", "DJANGO_SECRET_KEY"}
    assert not [*configured.BUILDS_DIR.glob(f"{second.pk}-*")]


def test_before_all_that_fails_switches_nothing_anywhere(make_site: Any) -> None:
    site = make_site()
    site.steps("before_all", "after_all")
    step(site, "before_all", "exit 3", name="call")
    site.project.steps.filter(name="call").update(position=9)
    site.step("after_all", name="tell", when="failure")
    step(site, "after_all", name="page", when="failure")
    step(site, "after_all", name="cheer", when="success")
    it = site.deployed()
    assert (it.status, ends(it)) == ("failed", ["skipped", "skipped"])
    assert "Step “Before all, on the platform: call” ended with status 3." in it.error_message
    assert site.ledger == ["one before_all deploy", "one tell deploy"]
    assert lines(it) == ["call deploy", "page deploy"]


def test_one_that_is_not_required_only_warns(make_site: Any) -> None:
    site = make_site()
    for moment in PLATFORM:
        step(site, moment, "exit 3", required=False)
    it = site.deployed()
    assert it.status == "success"
    assert it.error_message.count("ended with status 3") == 1, "what comes behind is all that is still told of"
    assert said(it).count("ended with status 3.") >= 3


def test_no_server_that_answers_no_step_before_all(make_site: Any) -> None:
    site = make_site()
    site.deployed()
    step(site, "before_all", types=["restart_only"])
    site.one.stop()
    site.two.stop()
    it = site.deployed("restart_only")
    assert (it.status, lines(it)) == ("failed", [])


@pytest.mark.parametrize("moment", ["prepare", "before_all"])
def test_cancelling_ends_it_with_its_processes(make_site: Any, moment: str) -> None:
    site = make_site()
    nap = f"sleep 7{secrets.randbelow(10**8):08}"
    step(site, moment, f"{nap} & {nap}")
    it = site.launched()
    worker = begun(it)
    wait_until(lambda: processes_running(nap), "the step to run")
    assert cancel(Deployment.objects.get(pk=it.pk), force=False)
    wait_for_end(worker)
    wait_until(lambda: not processes_running(nap), "its processes to end")
    it.refresh_from_db()
    assert (it.status, ends(it)) == ("cancelled", ["cancelled", "cancelled"])
    run = it.step_runs.get()
    assert (run.status, run.target) == ("failed", None)
    assert "was ended, because somebody cancelled." in run.problem
    assert not (site.one.home / "shop" / "current").exists()


def test_it_is_ended_at_its_own_limit(make_site: Any) -> None:
    site = make_site()
    nap = f"sleep 7{secrets.randbelow(10**8):08}"
    step(site, "before_all", nap, timeout=1)
    it = site.deployed()
    assert it.status == "failed"
    assert "ran longer than its limit of 1 seconds and was ended" in it.error_message
    assert not processes_running(nap)


@pytest.mark.parametrize("moment", PLATFORM)
def test_a_lost_worker_leaves_it_unknown_and_it_is_never_run_again(make_site: Any, moment: str) -> None:
    site = make_site()
    nap = f"sleep 7{secrets.randbelow(10**8):08}"
    step(site, moment, nap)
    it = site.launched()
    worker = begun(it)
    wait_until(lambda: processes_running(nap) and lines(it), "the step to run")
    assert take_over(Deployment.objects.get(pk=it.pk), "was lost")
    wait_until(lambda: not processes_running(nap), "its processes to end")
    assert settle_lost(it.pk)
    wait_for_end(worker)
    it.refresh_from_db()
    assert lines(it) == [f"{moment} deploy"]
    assert statuses(it) == {moment: "unknown"}
    assert "it was ended with its worker, and is not begun again" in said(it)
    live = (site.one.home / "shop" / "current").exists()
    assert live == (moment == "after_all"), "nothing is switched behind what nobody knows"
    assert it.status == "failed"


def test_a_retry_does_not_repeat_what_was_done_for_the_same_release(make_site: Any) -> None:
    site = make_site()
    step(site, "before_all")
    (site.one.home / "rule").write_text("exit 1\n")
    first = site.deployed()
    assert (first.status, lines(first)) == ("partial", ["before_all deploy"]) or first.status == "failed"
    (site.one.home / "rule").unlink()
    second = again(first)
    assert (second.status, lines(second)) == ("success", []), second.error_message
    assert f"Step “before_all” is not repeated: #{first.pk} has done it for {first.release}." in said(second)


def test_a_rollback_takes_it_back_on_the_platform(make_site: Any) -> None:
    site = make_site()
    first = site.deployed()
    site.next()
    undo = 'echo "undone: $DEPLOY_STEP $DEPLOY_ACTION $DEPLOY_RELEASE $DEPLOY_PREVIOUS"'
    step(site, "before_all", undone_by=undo)
    second = site.deployed()
    assert second.status == "success", second.error_message
    back = ended(launch_rollback(second, created_by=None, trigger="cli"))
    assert back.status == "success", back.error_message
    assert lines(back, "undone: ") == [f"before_all undo {second.release} {first.release}"]
    run = back.step_runs.get()
    assert (run.undoes, run.target, run.status, run.release) == (True, None, "done", str(second.release))


def test_without_isolation_that_is_required_nothing_is_touched(make_site: Any, settings: Any, monkeypatch: Any) -> None:
    site = make_site()
    site.deployed()
    step(site, "after_all", types=["restart_only"])
    settings.DEPLOYER_BUILD_ISOLATION = "required"
    isolation.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("deployer.releases.isolation._build_user", lambda: None)
    try:
        it = site.deployed("restart_only")
    finally:
        isolation.cache_clear()
    assert (it.status, site.ledger) == ("failed", [])
    assert "The steps on the platform were refused: Builds are not isolated" in it.error_message


# --- guided failure ----------------------------------------------------------------------------------


@pytest.fixture
def asking(make_site: Any, settings: Any) -> Site:
    settings.DEPLOYER_PARK_AFTER = 0
    site: Site = make_site(guided_failure=True)
    return site


def chosen(deployment: Deployment, given: str) -> Deployment:
    question = deployment.questions.last()
    assert question is not None, deployment.error_message
    (failure,) = question.failures
    assert (failure["server"], failure["target"]) == ("the platform", None)
    assert answer(question, given, question.token, make_user()), question.choices
    assert resume(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


@pytest.mark.parametrize("moment", ["prepare", "before_all"])
@pytest.mark.parametrize("given", ["again", "stop"])
def test_what_has_failed_is_asked_about(asking: Site, moment: str, given: str) -> None:
    door = f"/dev/shm/door-{secrets.token_hex(6)}"
    step(asking, moment, f"[ -e {door} ] || exit 5")
    it = asking.deployed()
    assert it.is_asking, it.error_message
    assert it.questions.get().choices == ["again", "stop"]
    it = chosen(it, given)
    assert lines(it) == [f"{moment} deploy"] * (2 if given == "again" else 1)
    if given == "again":
        assert it.is_asking, "it has failed again"
        it = chosen(it, "stop")
    assert (it.status, ends(it)) == ("failed", ["skipped", "skipped"])
    assert "ended with status 5." in it.error_message
    assert not (asking.one.home / "shop" / "current").exists()


@pytest.mark.parametrize("moment", ["prepare", "before_all"])
def test_it_may_be_gone_on_without_one_that_is_not_required(asking: Site, moment: str) -> None:
    step(asking, moment, "exit 5", required=False)
    it = asking.deployed()
    assert it.questions.get().choices == ["again", "go_on", "stop"]
    it = chosen(it, "go_on")
    assert (it.status, lines(it)) == ("success", [f"{moment} deploy"]), it.error_message
    assert StepRun.objects.get(deployment=it).status == "failed"


def test_tried_again_behind_a_pause_it_is_built_again(asking: Site) -> None:
    step(asking, "prepare", "exit 5")
    it = asking.deployed()
    plan: Any = it.plan
    plan["steps"][0]["script"] = TELLS
    it.plan = plan
    it.save(update_fields=["plan"])
    it = chosen(it, "again")
    assert (it.status, ends(it)) == ("success", ["success", "success"]), said(it)
    assert lines(it) == ["prepare deploy", "prepare deploy"]
    assert StepRun.objects.get(deployment=it).release == str(it.release)
    assert carry_out(it.pk) is False
