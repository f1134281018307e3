"""A worker that is lost where steps, config files, values from outside and another try meet: what is told is true."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from deployer.engine.routines import carry_out, resume, settle_lost
from deployer.launching.moves import answer
from deployer.models import Deployment
from deployer.queue.sweep import take_over
from projects.models import Step, Variable
from servers.errors import NotReadyError, StoppedError
from tests.deployer.test_together import Site, vault
from tests.factories import make_deployment, make_user
from tests.marks import rarely
from tests.parts.cue import Cue
from tests.parts.git import GitRepository
from tests.parts.programs import wait_for_end

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("queue_server")]


class LostError(BaseException):
    """The worker is gone."""


def lose_at(
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    deployment: Deployment,
    go: Any = carry_out,
    then: Callable[[], None] = lambda: None,
) -> Deployment:
    """Carry it out until a worker would do what is at ``where``, which kills it; ``then`` another one settles it."""

    def lost(*_given: Any) -> None:
        raise LostError

    with monkeypatch.context() as patched:
        patched.setattr(where, lost)
        patched.setattr("deployer.engine.run.Run._end", lambda run, _why: (run._done.set(), run._ended.set()))
        with pytest.raises(LostError):
            go(deployment.pk)
    then()
    assert take_over(Deployment.objects.get(pk=deployment.pk), "was lost")
    assert settle_lost(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


@pytest.fixture
def guided(make_sshd: Any, git_repo: GitRepository, settings: Any) -> Site:
    settings.DEPLOYER_PARK_AFTER = 0
    return Site(make_sshd(), git_repo, guided_failure=True)


def failed_and_to_be_tried_again(site: Site, repository: GitRepository, deployment_type: str) -> Deployment:
    site.deployed()
    repository.commit({"VERSION": "2"})
    site.becomes("broken")
    deployment = site.deployed(deployment_type)
    question = deployment.questions.get()
    assert answer(question, "again", question.token, make_user())
    return deployment


def live(site: Site) -> str:
    return (site.machine.home / "shop" / "current").resolve().name


@pytest.mark.parametrize("deployment_type", ["full", rarely("restart_only")])
def test_another_try_that_is_lost_before_its_script_puts_nothing_back(
    guided: Site, git_repo: GitRepository, monkeypatch: pytest.MonkeyPatch, deployment_type: str
) -> None:
    """What the first try has started may run: the release and the files under it stay."""
    it = failed_and_to_be_tried_again(guided, git_repo, deployment_type)
    release, conf = live(guided), guided.conf
    where = {"full": "ServerRun.restart", "restart_only": "ServerRun._is_left_to_itself"}[deployment_type]
    it = lose_at(monkeypatch, f"deployer.engine.server_run.{where}", it, resume)
    target = it.targets.get()
    assert (it.status, target.status) == ("failed", "failed")
    assert target.error.startswith("It had failed, and the worker was lost before"), target.error
    assert (live(guided), guided.conf) == (release, conf)
    assert conf == ("role=broken", "in=broken")
    assert target.release_after == release


def test_another_try_that_fails_before_its_script_puts_no_files_back(
    guided: Site, git_repo: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = failed_and_to_be_tried_again(guided, git_repo, "restart_only")
    monkeypatch.setattr("deployer.engine.server_run.ServerRun.restart", not_ready)
    assert resume(it.pk)
    assert guided.conf == ("role=broken", "in=broken")
    assert it.targets.get().error == "It cannot: as the test says."


def test_another_try_that_is_cancelled_before_its_script_has_failed_still(
    guided: Site, git_repo: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(_server: Any) -> None:
        raise StoppedError("Cancelled")

    it = failed_and_to_be_tried_again(guided, git_repo, "full")
    monkeypatch.setattr("deployer.engine.server_run.ServerRun.switch", cancelled)
    assert resume(it.pk)
    target = it.targets.get()
    assert (target.status, target.error) == (
        "failed",
        "It had failed, and was not tried again to the end: Cancelled.",
    )


def not_ready(*_given: Any) -> None:
    raise NotReadyError("It cannot", "as the test says")


def test_files_are_put_back_by_who_takes_over_where_a_server_had_ended_before_its_switch(
    make_sshd: Any, git_repo: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(make_sshd(), git_repo)
    site.deployed()
    site.becomes("second")
    deployment = make_deployment(site.project, site.group)
    monkeypatch.setattr("deployer.engine.server_run.ServerRun.switch", not_ready)
    it = lose_at(monkeypatch, "deployer.engine.server_run.ServerRun.take_files_back", deployment)
    assert (it.status, it.targets.get().status) == ("failed", "failed")
    assert site.conf == ("role=first", "in=first")
    assert site.ledger[-1] == "after deploy second role=first in=first"


@pytest.mark.parametrize("where", ["before", "restart"])
def test_what_had_begun_is_unknown_where_its_values_cannot_be_had_any_more(
    make_sshd: Any, git_repo: GitRepository, settings: Any, where: str
) -> None:
    """It is not called failed, nor followed: what it writes could not be masked. And nothing is run twice."""
    settings.DEPLOYER_VALUE_COMMANDS = vault("echo hunter2-from-outside")
    site = Site(make_sshd(), git_repo)
    Variable.objects.create(project=site.project, name="TOKEN", value_from="vault:shop", scope="deploy")
    cue = Cue(site.machine.home)
    waits = f"echo begun >>~/ledger; {cue}\n"
    if where == "restart":
        git_repo.commit({"restart.sh": waits})
    else:
        Step.objects.filter(project=site.project, moment=where).update(script=waits)
    (site.machine.home / "ledger").write_text("")
    deployment = make_deployment(site.project, site.group)
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    cue.wait()
    settings.DEPLOYER_VALUE_COMMANDS = vault("exit 1")
    assert take_over(Deployment.objects.get(pk=deployment.pk), "was lost")
    wait_for_end(worker)
    assert settle_lost(deployment.pk)
    cue.give()
    target = deployment.targets.get()
    told = Deployment.objects.get(pk=deployment.pk).error_message + target.error
    assert site.ledger.count("begun") == 1
    assert "No server was touched" not in told
    if where == "restart":
        assert target.status == "unknown", told
        assert "TOKEN could not be had" in target.error
    else:
        assert deployment.step_runs.get(moment="before").status == "unknown"
        assert (target.status, target.release_after) == ("skipped", "")


@pytest.mark.parametrize("deployment_type", ["full", rarely("restart_only")])
def test_files_that_cannot_be_put_back_are_said_and_the_release_goes_back_all_the_same(
    make_sshd: Any, git_repo: GitRepository, settings: Any, monkeypatch: pytest.MonkeyPatch, deployment_type: str
) -> None:
    settings.DEPLOYER_VALUE_COMMANDS = vault("echo hunter2-from-outside")
    site = Site(make_sshd(), git_repo)
    Variable.objects.create(project=site.project, name="TOKEN", value_from="vault:shop", scope="deploy")
    site.file("~/token.conf", "token={{ TOKEN }}")
    site.deployed()
    before = live(site)
    site.becomes("second")
    git_repo.commit({"VERSION": "2"})
    it = make_deployment(site.project, site.group, deployment_type=deployment_type)
    where = {"full": "ServerRun.restart", "restart_only": "ServerRun._is_left_to_itself"}[deployment_type]

    def close_vault() -> None:
        settings.DEPLOYER_VALUE_COMMANDS = vault("exit 1")

    done = lose_at(monkeypatch, f"deployer.engine.server_run.{where}", it, then=close_vault)
    target = done.targets.get()
    assert (target.status, live(site)) == ("failed", before)
    assert "TOKEN could not be had" in target.error
    told = {"full": "current points to", "restart_only": "the config files may be the new ones"}[deployment_type]
    assert told in target.error
    assert site.conf[0] == "role=second"
