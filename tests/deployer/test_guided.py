"""Guided failure, on real SSH servers: what has failed is shown, and a person chooses what comes next."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from deployer.engine.routines import carry_out, resume, settle_lost
from deployer.launching.moves import answer, cancel, go_on
from deployer.models import Deployment, FailureQuestion, StepRun
from deployer.queue.sweep import sweep, take_over
from projects.models import Project
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.programs import wait_for_end, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

WRITES = 'echo "$DEPLOY_SERVER $DEPLOY_STEP$DEPLOY_ACTION" >>"$LEDGER"'
#: A server breaks while it has a file of that name, in its script or in a step.
RESTART = '[ ! -e ~/broken ] || { echo "no luck" >&2; exit 3; }\n'


@pytest.fixture(autouse=True)
def _parks_at_once(settings: Any) -> None:
    settings.DEPLOYER_PARK_AFTER = 0


class Shop:
    """Three servers, one after the other; their project asks after failures."""

    def __init__(self, machines: list[Any], repository: Any, ledger: Path, **values: Any) -> None:
        self.machines, self.repository, self.ledger = machines, repository, ledger
        repository.commit({"restart.sh": RESTART, "VERSION": "one\n"})
        values = {"batches": "1", "guided_failure": True, "may_stop_last_healthy": True} | values
        self.project: Project = make_project(
            git_url=repository.url, deploy_path="~/shop", deploy_script_path="restart.sh", **values
        )
        self.project.variables.create(name="LEDGER", value=str(ledger))
        self.group = make_group(*(make_server(sshd, name=f"web-{at}") for at, sshd in enumerate(machines)))

    def step(self, moment: str, script: str = "", **values: Any) -> None:
        values = {"moment": moment, "name": moment, "script": f"{WRITES}\n{script}", "timeout": 60} | values
        self.project.steps.update_or_create(name=moment, defaults=values)

    def launch(self, deployment_type: str = "full", **values: Any) -> Deployment:
        self.ledger.write_text("")
        return make_deployment(self.project, self.group, deployment_type=deployment_type, **values)

    def deploy(self, deployment_type: str = "full", **values: Any) -> Deployment:
        deployment = self.launch(deployment_type, **values)
        assert carry_out(deployment.pk)
        return fresh(deployment)

    def first(self) -> None:
        """What is live everywhere before."""
        it = self.deploy(guided_failure=False)
        assert it.status == "success", it.error_message
        self.repository.commit({"VERSION": "two\n"})

    def break_(self, *at: int, name: str = "broken") -> None:
        for each in at:
            (self.machines[each].home / name).write_text("")

    def mend(self, *at: int, name: str = "broken") -> None:
        for each in at:
            (self.machines[each].home / name).unlink()

    @property
    def live(self) -> str:
        found = [(each.home / "shop" / "current" / "VERSION") for each in self.machines]
        return " ".join(path.read_text().strip() if path.exists() else "-" for path in found)


@pytest.fixture
def shop(make_sshd: Any, git_repo: Any, tmp_path: Path) -> Any:
    def make(number: int = 3, **values: Any) -> Shop:
        return Shop([make_sshd() for _each in range(number)], git_repo, tmp_path / "ledger", **values)

    return make


def fresh(deployment: Deployment) -> Deployment:
    return Deployment.objects.get(pk=deployment.pk)


def ends(deployment: Deployment) -> str:
    return " ".join(deployment.targets.order_by("server_name").values_list("status", flat=True))


def asked(deployment: Deployment) -> FailureQuestion:
    assert fresh(deployment).is_asking, fresh(deployment).error_message or ends(deployment)
    question = deployment.questions.last()
    assert question is not None
    return question


def choose(deployment: Deployment, given: str, user: Any = None) -> Deployment:
    """Answer as that user, and let a worker go on until it waits again or has ended."""
    question = asked(deployment)
    assert answer(question, given, question.token, user or make_user()), question.choices
    assert resume(deployment.pk)
    return fresh(deployment)


def test_what_has_failed_stands_beside_the_choices(shop: Any) -> None:
    site = shop()
    site.first()
    site.break_(1)
    it = site.deploy()
    question = asked(it)
    assert ends(it) == "success failed staged"
    assert question.choices == ["again", "go_on", "roll_back", "stop"]
    (failure,) = question.failures
    assert (failure["server"], failure["again"], failure["required"]) == ("web-1", True, False)
    assert "ended with status 3" in failure["error"]
    assert not go_on(it)  # it is not merely paused
    assert question.until - question.asked_at == timedelta(minutes=60)


@pytest.mark.every_case
def test_these_servers_are_tried_again(shop: Any) -> None:
    site = shop()
    site.first()
    site.break_(1)
    it = site.deploy()
    site.mend(1)
    user = make_user()
    it = choose(it, "again", user)
    assert (it.status, ends(it), site.live) == ("success", "success success success", "two two two")
    question = it.questions.get()
    assert (question.answer, question.answered_by) == ("again", user)
    assert question.answered_at is not None
    befores = set(it.targets.values_list("release_before", flat=True))
    assert len(befores) == 1
    assert it.release is not None
    assert befores != {it.release.version}


def test_it_asks_again_where_they_fail_again_and_no_old_answer_counts(shop: Any) -> None:
    site = shop()
    site.break_(1)
    it = site.deploy()
    old = asked(it)
    it = choose(it, "again")
    new = asked(it)
    assert new.token != old.token
    assert not answer(new, "stop", old.token, None)
    assert not answer(old, "stop", old.token, None)
    assert not answer(new, "nonsense", new.token, None)
    site.mend(1)
    it = choose(it, "again")
    assert it.status == "success"


def test_the_others_go_on_without_them(shop: Any) -> None:
    site = shop()
    site.step("before")
    site.step("after")
    site.break_(0)
    it = site.deploy()
    assert site.ledger.read_text().splitlines() == ["web-0 beforedeploy"]
    it = choose(it, "go_on", make_user("anna"))
    assert (it.status, ends(it)) == ("failed", "skipped success success")
    reason = it.targets.get(server_name="web-0").reason
    assert reason.startswith("Left out, as anna chose: ")
    assert "ended with status 3" in reason
    assert site.ledger.read_text().splitlines()[:2] == ["web-0 beforedeploy", "web-0 afterdeploy"]
    assert not it.targets.exclude(kept_out="").exists()


def test_what_was_switched_is_rolled_back(shop: Any) -> None:
    site = shop()
    site.first()
    site.break_(1)
    it = site.deploy()
    assert site.live == "two two one"
    site.mend(1)
    it = choose(it, "roll_back")
    assert (it.status, ends(it), site.live) == ("failed", "rolled_back rolled_back skipped", "one one one")


def test_it_stops_and_leaves_the_rest(shop: Any) -> None:
    site = shop(auto_rollback=True)
    site.step("after")
    site.first()
    site.break_(1)
    it = choose(site.deploy(), "stop", make_user("anna"))
    assert (it.status, ends(it), site.live) == ("failed", "success failed skipped", "two two one")
    assert it.targets.get(server_name="web-2").reason == "Not started: anna chose: Stop."
    assert site.ledger.read_text().splitlines() == ["web-0 afterdeploy", "web-1 afterdeploy"]


@pytest.mark.every_case
def test_without_an_answer_it_stops_and_never_goes_on(shop: Any, queue_server: Any) -> None:
    site = shop()
    site.break_(0)
    it = site.deploy()
    question = asked(it)
    assert sweep()["again"] == []
    Deployment.objects.filter(pk=it.pk).update(paused_until=timezone.now() - timedelta(seconds=1))
    assert not answer(question, "go_on", question.token, None)
    assert sweep()["again"] == [it.pk]
    assert resume(it.pk)
    it = fresh(it)
    assert (it.status, ends(it)) == ("failed", "failed skipped skipped")
    question.refresh_from_db()
    assert (question.answer, question.who) == ("stop", "")


def test_a_worker_that_waits_itself_stops_in_time(shop: Any, settings: Any) -> None:
    settings.DEPLOYER_PARK_AFTER = 600
    site = shop(1)
    site.break_(0)
    it = site.launch()
    worker = threading.Thread(target=carry_out, args=[it.pk])
    worker.start()
    wait_until(lambda: fresh(it).is_asking, "the question")
    Deployment.objects.filter(pk=it.pk).update(paused_until=timezone.now() - timedelta(seconds=1))
    wait_for_end(worker)
    assert (fresh(it).status, it.questions.get().answer) == ("failed", "stop")


def test_a_worker_that_waits_itself_takes_the_answer(shop: Any, settings: Any) -> None:
    settings.DEPLOYER_PARK_AFTER = 600
    site = shop(2)
    site.break_(0)
    it = site.launch()
    worker = threading.Thread(target=carry_out, args=[it.pk])
    worker.start()
    wait_until(lambda: fresh(it).is_asking, "the question")
    site.mend(0)
    question = asked(it)
    assert answer(question, "again", question.token, None, "root")
    wait_for_end(worker)
    assert (fresh(it).status, ends(it)) == ("success", "success success")
    assert it.questions.get().who == "root"


def test_within_its_budget_nobody_is_asked(shop: Any) -> None:
    site = shop(max_failures=1)
    site.break_(0)
    it = site.deploy()
    assert (it.status, ends(it), it.questions.count()) == ("failed", "failed success success", 0)


def test_a_step_that_fails_is_asked_about_though_the_budget_is_not_spent(shop: Any) -> None:
    site = shop(max_failures=5)
    site.step("before", "[ ! -e ~/bad ]")
    site.break_(0, name="bad")
    it = site.deploy()
    question = asked(it)
    assert question.choices == ["again", "stop"]  # it is required, and nothing was switched
    assert question.failures[0]["what"] == "Before: before"
    site.mend(0, name="bad")
    it = choose(it, "again")
    assert (it.status, ends(it)) == ("success", "success success success")
    assert [run.status for run in it.step_runs.filter(target__server_name="web-0")] == ["done"]


def test_a_step_that_is_not_required_may_be_gone_on_from(shop: Any) -> None:
    site = shop()
    site.step("before", "[ ! -e ~/bad ]", required=False)
    site.break_(0, name="bad")
    it = site.deploy()
    assert ends(it) == "success staged staged"
    question = asked(it)
    assert question.choices == ["go_on", "stop"]
    it = choose(it, "go_on")
    assert (it.status, it.questions.count()) == ("success", 1)


def test_a_step_after_that_fails_is_run_again_and_nothing_else(shop: Any) -> None:
    site = shop()
    site.step("before")
    site.step("after", "[ ! -e ~/bad ]")
    site.break_(0, name="bad")
    it = site.deploy("full")
    assert ends(it) == "failed staged staged"
    assert it.targets.get(server_name="web-0").kept_out
    site.mend(0, name="bad")
    began = it.targets.get(server_name="web-0").checking_at
    it = choose(it, "again")
    assert (it.status, ends(it)) == ("success", "success success success")
    first = it.targets.get(server_name="web-0")
    assert (first.checking_at, first.kept_out) == (began, "")
    told = site.ledger.read_text().splitlines()
    assert told[:3] == ["web-0 beforedeploy", "web-0 afterdeploy", "web-0 afterdeploy"]


def test_before_all_that_fails_is_asked_about_and_nothing_is_switched(shop: Any) -> None:
    site = shop()
    site.step("before_all", "[ ! -e ~/bad ]")
    site.break_(0, name="bad")
    it = site.deploy()
    assert asked(it).choices == ["again", "stop"]
    assert (ends(it), site.live) == ("staged staged staged", "- - -")
    site.mend(0, name="bad")
    it = choose(it, "again")
    assert (it.status, site.live) == ("success", "one one one")
    assert site.ledger.read_text().count("before_all") == 2


def test_before_all_that_fails_and_is_stopped_switches_nothing(shop: Any) -> None:
    site = shop()
    site.step("before_all", "exit 7", required=False)
    it = site.deploy()
    assert asked(it).choices == ["again", "go_on", "stop"]
    it = choose(it, "stop")
    assert (it.status, site.live) == ("failed", "- - -")
    assert "status 7" in it.error_message


def test_before_all_that_is_not_required_may_be_gone_on_from(shop: Any) -> None:
    site = shop()
    site.step("before_all", "exit 7", required=False)
    it = choose(site.deploy(), "go_on")
    assert (it.status, it.questions.count(), site.ledger.read_text().count("before_all")) == ("success", 1, 1)


def test_a_failing_prepare_is_asked_about_before_anything_runs(shop: Any) -> None:
    site = shop()
    site.step("prepare", "[ ! -e ~/bad ]")
    site.step("before_all")
    site.break_(1, name="bad")
    it = site.deploy()
    assert asked(it).choices == ["again", "stop"]
    assert ends(it) == "staged failed staged"
    assert not it.step_runs.filter(step="before_all").exists()
    site.mend(1, name="bad")
    it = choose(it, "again")
    assert (it.status, ends(it)) == ("success", "success success success")
    assert site.ledger.read_text().count("prepare") == 4


def test_a_restart_has_no_way_back_and_offers_none(shop: Any) -> None:
    site = shop(2)
    site.first()
    site.break_(0)
    it = site.deploy("restart_only")
    assert asked(it).choices == ["again", "go_on", "stop"]
    site.mend(0)
    it = choose(it, "again")
    assert (it.status, ends(it)) == ("success", "success success")


def test_a_server_of_which_nobody_knows_is_not_tried_again(shop: Any) -> None:
    site = shop(2)
    site.step("before", "sleep 1")
    it = site.launch()
    deployment = it
    site.break_(0)
    assert carry_out(deployment.pk)
    target = it.targets.get(server_name="web-0")
    # What is not known of a step that may have run cannot be played without losing its server: it is written so.
    StepRun.objects.filter(target=target).update(status="unknown")
    question = asked(it)
    assert answer(question, "again", question.token, None)
    assert resume(it.pk)
    later = asked(it)
    assert (later.failures[0]["again"], "again" in later.choices) == (False, False)


def test_the_cancel_of_one_that_asks_comes_before_any_answer(shop: Any) -> None:
    site = shop()
    site.step("before")
    site.step("after")
    site.first()
    site.break_(1)
    it = site.deploy()
    question = asked(it)
    assert cancel(fresh(it))
    assert not answer(question, "go_on", question.token, None)
    assert resume(it.pk)
    it = fresh(it)
    assert (it.status, ends(it)) == ("cancelled", "success failed cancelled")
    assert site.ledger.read_text().splitlines()[-1] == "web-1 afterdeploy"


def test_abort_and_roll_back_of_one_that_asks(shop: Any) -> None:
    site = shop()
    site.first()
    site.break_(1)
    it = site.deploy()
    site.mend(1)
    assert cancel(fresh(it), roll_back=True)
    assert resume(it.pk)
    assert (fresh(it).status, ends(it), site.live) == ("cancelled", "rolled_back rolled_back cancelled", "one one one")


@pytest.mark.every_case
def test_one_of_two_answers_wins(shop: Any) -> None:
    site = shop(1)
    site.break_(0)
    it = site.deploy()
    won: list[bool] = []
    gate = threading.Barrier(2)

    def press(given: str) -> None:
        question = asked(it)
        gate.wait()
        won.append(answer(question, given, question.token, None))

    threads = [threading.Thread(target=press, args=[given]) for given in ("again", "stop")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, True]


def test_a_worker_lost_before_another_try_leaves_the_truth(shop: Any, queue_server: Any, monkeypatch: Any) -> None:
    site = shop(2)
    site.first()
    site.break_(0)
    it = site.deploy()
    question = asked(it)
    assert answer(question, "again", question.token, None)

    def lost(*_given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deployer.engine.run.Run.side_by_side", lost)
    monkeypatch.setattr("deployer.engine.run.Run._end", lambda run, _why: (run._done.set(), run._ended.set()))
    with pytest.raises(KeyboardInterrupt):
        resume(it.pk)
    monkeypatch.undo()
    assert take_over(fresh(it), "was lost")
    assert settle_lost(it.pk)
    target = it.targets.get(server_name="web-0")
    assert (fresh(it).status, target.status) == ("failed", "failed")
    assert target.error == "It had failed, and the worker was lost before it was tried again."


def test_another_try_keeps_its_place_before_the_pause_behind_its_batch(shop: Any) -> None:
    site = shop(2, pause_after="1")
    site.break_(0)
    it = site.deploy()
    site.mend(0)
    it = choose(it, "again")
    assert (it.is_paused, it.is_asking, it.batches_done, ends(it)) == (True, False, 1, "success staged")
    assert it.continue_rollout()
    assert resume(it.pk)
    assert (fresh(it).status, ends(it)) == ("success", "success success")
    told = [*it.log_lines.filter(content__startswith="Batch ").values_list("content", flat=True)]
    assert [line.partition(":")[0] for line in told] == ["Batch 1 of 2", "Batch 2 of 2"]
