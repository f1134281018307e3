"""One large deployment is carried out by several workers: each server once, one state, one log, whoever is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from deployer.engine import helping
from deployer.engine.journal import Journal
from deployer.engine.routines import carry_out, help_with, settle_lost
from deployer.engine.run import Others, Run
from deployer.engine.server_run import ServerRun
from deployer.launching.moves import answer
from deployer.log.masking import Masker
from deployer.log.writing import Log
from deployer.models import Deployment, Lease, LogLine, Slice, StepRun, TakenError, Target
from deployer.queue.sending import enqueue_help
from deployer.queue.sweep import work_horse_killed
from servers.errors import NotReadyError, StoppedError
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.marks import rarely
from tests.parts.cue import Cue
from tests.parts.git import GitRepository
from tests.parts.programs import PATIENCE, wait_for_end, wait_until
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import Worker, freeze_workers, wake_workers

pytestmark = pytest.mark.django_db(transaction=True)

#: The claim of a helper, and that of a coordinator.
HELPER, CLAIM = "h" * 32, "c" * 32
#: What a worker does that calls others to help.
SHARING = Others(enqueue_help)


class Fleet:
    """Six machines, the servers web-0 to web-5, two of which are worked on at a time by each worker."""

    def __init__(self, make_sshd: Callable[..., OpenSSHServer], repository: GitRepository, folder: Path) -> None:
        self.folder = folder
        self.machines = [make_sshd() for _machine in range(6)]
        self.servers = [make_server(machine, name=f"web-{at}") for at, machine in enumerate(self.machines)]
        self.project = make_project(
            git_url=repository.url, deploy_path="~/shop", deploy_script_path="~/restart.sh", name="shop"
        )
        self.group = make_group(*self.servers)
        for at in range(6):
            self.script(at)

    def script(self, at: int, text: object = "true") -> None:
        """What is run on a machine: it is counted, and then this."""
        path = self.machines[at].home / "restart.sh"
        path.write_text(f"echo x >>{self.folder}/ran-{at}; echo here is {at}; {text}\n")

    def ran(self) -> list[int]:
        """How often the script of each machine was begun."""
        return [len(path.read_text().split()) if (path := self.folder / f"ran-{at}").exists() else 0 for at in range(6)]

    def launch(self, kind: str = "restart_only", **values: Any) -> Deployment:
        return make_deployment(self.project, self.group, deployment_type=kind, **values)


@pytest.fixture
def fleet(
    make_sshd: Callable[..., OpenSSHServer], git_repo: GitRepository, tmp_path: Path, monkeypatch: Any, settings: Any
) -> Fleet:
    for name, value in {"DEPLOYER_SLICE": 2, "DEPLOYER_PARALLEL_SERVERS": 2}.items():
        setattr(settings, name, value)
        monkeypatch.setenv(name, str(value))
    return Fleet(make_sshd, git_repo, tmp_path)


@pytest.fixture
def helper(fleet: Fleet, queue_server: QueueServer) -> Iterator[Worker]:
    """A worker process that does nothing but help."""
    worker = Worker(queue_server, "slices")
    yield worker
    worker.stop()


def in_thread(deployment: Deployment, do: Callable[..., object] = carry_out, *given: Any) -> threading.Thread:
    """This process carries it out, and calls for help on the queue."""
    thread = threading.Thread(target=do, args=[deployment.pk, *(given or ["", SHARING])], name="the coordinator")
    thread.start()
    return thread


def one_helper(do: Callable[..., object]) -> Others:
    """Of this process: the first call is heard by a thread, which has done what it does when the caller goes on."""
    threads: list[threading.Thread] = []

    def hear(*numbers: int) -> None:
        do(*numbers)
        connection.close()

    def call(*numbers: int) -> bool:
        if not threads:
            threads.append(threading.Thread(target=hear, args=numbers, name="the helper"))
            threads[0].start()
            wait_for_end(threads[0])
        return True

    return Others(call)


def helped(deployment: Deployment) -> set[str]:
    """The servers that a helper has said it works on."""
    lines = deployment.log_lines.filter(content__startswith="A worker on ").values_list("content", flat=True)
    return {name for line in lines for name in line.partition(" helps: ")[2].split(", ")}


def is_in_order(deployment: Deployment) -> bool:
    """Whether each line has the next number, in the order in which they were written."""
    numbers = [*deployment.log_lines.order_by("id").values_list("number", flat=True)]
    return numbers == [*range(1, len(numbers) + 1)]


@pytest.mark.parametrize("kind", ["full", rarely("restart_only")])
def test_two_workers_do_one_deployment_each_server_once(fleet, helper, kind) -> None:
    cue = Cue(fleet.folder)
    for at in (0, 1):
        fleet.script(at, cue)  # the first slice is the coordinator's
    deployment = fleet.launch(kind)
    worker = in_thread(deployment)
    rest = deployment.targets.exclude(server__name__in=["web-0", "web-1"])
    wait_until(lambda: rest.filter(status="success").count() == 4, "the helper to have done the others")
    assert deployment.targets.filter(status="restarting").count() == 2
    cue.give()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert (deployment.status, deployment.error_message) == ("success", "")
    assert fleet.ran() == [1] * 6
    assert helped(deployment) >= {"web-2", "web-3", "web-4", "web-5"}
    assert is_in_order(deployment)
    for at, target in enumerate(deployment.targets.order_by("id")):
        said = [*target.log_lines.filter(stream="stdout").values_list("content", flat=True)]
        assert said == [f"here is {at}"]
    assert not Slice.objects.exists()
    assert deployment.log_lines.filter(content__contains="6 servers in 3 slices").count() == (
        2 if kind == "full" else 1
    )


def test_without_anybody_who_helps_one_worker_does_all(fleet, queue_server) -> None:
    deployment = fleet.launch()
    carry_out(deployment.pk, "", SHARING)
    deployment.refresh_from_db()
    assert (deployment.status, fleet.ran()) == ("success", [1] * 6)
    helper = Worker(queue_server, "slices")  # the calls are still there
    try:
        wait_until(lambda: not queue_server.client.llen("rq:queue:slices") and helper.is_idle, "the calls to be heard")
    finally:
        helper.stop()
    assert fleet.ran() == [1] * 6
    assert helped(deployment) == set()


def test_few_servers_are_not_shared(fleet, settings) -> None:
    settings.DEPLOYER_SLICE = 6
    called = []

    def call(*numbers: int) -> bool:
        called.append(numbers)
        return True

    carry_out(fleet.launch().pk, "", Others(call))
    settings.DEPLOYER_SLICE = 0
    carry_out(fleet.launch().pk, "", Others(call))
    assert called == []
    assert fleet.ran() == [2] * 6


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_helper_that_is_lost_leaves_nothing_behind_and_nothing_runs_twice(fleet, helper, monkeypatch, how) -> None:
    monkeypatch.setattr("deployer.engine.slices.SILENT", 2.0)
    monkeypatch.setattr("deployer.engine.slices.GRACE", 2.0)
    first, there = Cue(fleet.folder), Cue(fleet.folder, "there")
    for at in (0, 1):
        fleet.script(at, first)
    for at in (2, 3):
        fleet.script(at, f"{there}; echo ended")
    deployment = fleet.launch()
    worker = in_thread(deployment)
    wait_until(lambda: fleet.ran()[2:4] == [1, 1], "both scripts of the helper")
    horse = helper.horse
    if how == "killed":
        helper.kill_horse()
    else:
        freeze_workers(horse)
    first.give()
    wait_until(lambda: deployment.log_lines.filter(content__startswith="A worker that helped was lost").exists(), "it")
    there.give()
    wait_for_end(worker)
    if how == "frozen":
        wake_workers(horse)
        wait_until(lambda: helper.is_idle, "the one that was taken for lost to stop")
    deployment.refresh_from_db()
    assert (deployment.status, deployment.error_message) == ("success", "")
    assert fleet.ran() == [1] * 6
    assert is_in_order(deployment)
    for at in (2, 3):
        target = deployment.targets.get(server__name=f"web-{at}")
        said = [*target.log_lines.filter(stream="stdout").values_list("content", flat=True)]
        assert said == [f"here is {at}", "ended"]


def test_helpers_stop_when_the_coordinator_is_lost_and_what_they_began_is_settled(fleet, helper) -> None:
    cue = Cue(fleet.folder)
    for at in range(6):
        fleet.script(at, cue)
    deployment = fleet.launch()
    claim = "c" * 32
    worker = in_thread(deployment, carry_out, claim, SHARING)
    wait_until(lambda: sum(fleet.ran()) == 4, "two scripts of each worker")
    assert work_horse_killed(deployment.pk, claim, 9)  # as its worker would say it
    wait_for_end(worker)
    wait_until(lambda: helper.is_idle, "the helper to stop")
    cue.give()
    settled = Deployment.objects.get(pk=deployment.pk)
    assert settled.finished_at is None
    assert settle_lost(deployment.pk)
    settled.refresh_from_db()
    ends = {target.server_name: target.status for target in settled.targets.all()}
    assert sorted(ends.values()) == ["skipped"] * 2 + ["success"] * 4
    assert sum(fleet.ran()) == 4
    assert max(fleet.ran()) == 1
    assert is_in_order(settled)
    assert not Slice.objects.exists()


def test_cancel_is_heard_by_all(fleet, helper) -> None:
    cue = Cue(fleet.folder)
    for at in range(6):
        fleet.script(at, cue)
    deployment = fleet.launch()
    worker = in_thread(deployment)
    wait_until(lambda: sum(fleet.ran()) == 4, "two scripts of each worker")
    deployment.request_cancel()
    wait_until(lambda: deployment.log_lines.filter(content__startswith="Cancel requested").exists(), "the coordinator")
    time.sleep(3)  # the helper looks twice a second, as the coordinator does
    cue.give()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert deployment.status == "cancelled"
    ends = sorted(deployment.targets.values_list("status", flat=True))
    assert ends == ["cancelled"] * 2 + ["success"] * 4
    assert sum(fleet.ran()) == 4


def test_forced_cancel_ends_the_scripts_of_helpers_too(fleet, helper) -> None:
    for at in range(6):
        fleet.script(at, "sleep 1000")
    deployment = fleet.launch()
    worker = in_thread(deployment)
    wait_until(lambda: sum(fleet.ran()) == 4, "two scripts of each worker")
    deployment.request_cancel(force=True)
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert deployment.status == "cancelled"
    assert set(deployment.targets.values_list("status", flat=True)) == {"cancelled"}


def test_two_names_of_one_machine_in_two_slices_are_restarted_once(fleet, helper) -> None:
    cue = Cue(fleet.folder)
    for at in (0, 1):
        fleet.script(at, cue)
    twin = make_server(fleet.machines[0], name="zz-twin")
    fleet.group.servers.add(twin)
    deployment = fleet.launch()
    worker = in_thread(deployment)
    rest = deployment.targets.exclude(server__name__in=["web-0", "web-1", "zz-twin"])
    wait_until(lambda: rest.filter(status="success").count() == 4, "the helper to have done the others")
    wait_until(lambda: deployment.targets.filter(same_as__isnull=False).exists(), "the twin to be known")
    cue.give()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert (deployment.status, deployment.error_message) == ("success", "")
    assert fleet.ran() == [1] * 6
    found = deployment.targets.get(server=twin)
    assert found.error == "The same machine and folder as web-0: done there."


def test_what_fails_at_a_helpers_counts_and_is_put_back_by_the_coordinator(fleet, helper, git_repo) -> None:
    fleet.project.auto_rollback = True
    fleet.project.save()
    carry_out(fleet.launch("full").pk)
    git_repo.commit({"index.html": "second\n"})
    cue = Cue(fleet.folder)
    for at in (0, 1):
        fleet.script(at, f'[ "$DEPLOY_ACTION" = undo ] || {{ {cue}; }}')
    fleet.script(3, '[ "$DEPLOY_ACTION" = undo ] || exit 3')
    deployment = fleet.launch("full")
    worker = in_thread(deployment)
    rest = deployment.targets.exclude(server__name__in=["web-0", "web-1"])
    wait_until(lambda: rest.filter(finished_at__isnull=False).count() == 4, "the helper to have done the others")
    cue.give()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert deployment.status == "failed"
    assert deployment.error_message.startswith("1 of 6 servers failed: web-3: ")
    assert set(deployment.targets.values_list("status", flat=True)) == {"rolled_back"}
    assert {(machine.home / "shop/current").resolve().name for machine in fleet.machines} == {
        target.release_before for target in deployment.targets.all()
    }


def test_somebody_is_asked_about_what_failed_at_a_helpers(fleet, helper) -> None:
    fleet.project.guided_failure = True
    fleet.project.save()
    cue = Cue(fleet.folder)
    for at in (0, 1):
        fleet.script(at, cue)
    fleet.script(4, "exit 3")
    deployment = fleet.launch()
    worker = in_thread(deployment)
    rest = deployment.targets.exclude(server__name__in=["web-0", "web-1"])
    wait_until(lambda: rest.filter(finished_at__isnull=False).count() == 4, "the helper to have done the others")
    cue.give()
    wait_until(deployment.questions.exists, "the question")
    question = deployment.questions.get()
    assert [failure["server"] for failure in question.failures] == ["web-4"]
    fleet.script(4)
    assert answer(question, "again", question.token, make_user())
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert (deployment.status, deployment.error_message) == ("success", "")
    assert fleet.ran() == [1, 1, 1, 1, 2, 1]


def test_long_outputs_of_two_workers_are_one_log_in_order(fleet, helper) -> None:
    for at in range(6):
        fleet.script(at, "seq 20000")
    deployment = fleet.launch()
    wait_for_end(in_thread(deployment))
    deployment.refresh_from_db()
    assert (deployment.status, deployment.error_message) == ("success", "")
    assert is_in_order(deployment)
    for at, target in enumerate(deployment.targets.order_by("id")):
        lines = target.log_lines.filter(stream="stdout").order_by("id").values_list("content", flat=True)
        assert [*lines] == [f"here is {at}", *map(str, range(1, 20001))]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("nobody has thought of it"), "deployer itself failed: ValueError: nobody has thought of it"),
        (NotReadyError("there is no vault here"), "cannot help: there is no vault here"),
    ],
)
def test_an_error_of_a_helper_leaves_its_servers_to_the_coordinator(fleet, monkeypatch, error, said) -> None:
    helped_badly = []

    def fail(_work: object) -> None:
        raise error

    def help_badly(deployment: int, number: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(helping, "fetch_values", fail)
            with suppress(ValueError):
                helped_badly.append(help_with(deployment, number, HELPER))

    deployment = fleet.launch()
    carry_out(deployment.pk, "", one_helper(help_badly))
    deployment.refresh_from_db()
    assert (deployment.status, fleet.ran()) == ("success", [1] * 6)
    assert not any(helped_badly)
    assert deployment.log_lines.filter(content__startswith="A worker that helped was lost").count() == 1
    assert deployment.log_lines.filter(content__contains=said).count() == 1


def test_a_server_that_a_lost_helper_had_not_run_the_script_on_is_left_as_it_was_and_said_so(
    fleet, monkeypatch, settings
) -> None:
    settings.DEPLOYER_PARALLEL_SERVERS = 1
    follow = ServerRun.follow

    def lose(server: ServerRun, output: Any) -> None:
        if not server.work.deployment.helper:
            return follow(server, output)
        Slice.lose(server.work.deployment.pk, HELPER)
        raise StoppedError("lost")

    monkeypatch.setattr(ServerRun, "follow", lose)
    deployment = fleet.launch()
    carry_out(deployment.pk, "", one_helper(lambda deployment, number: help_with(deployment, number, HELPER)))
    deployment.refresh_from_db()
    assert deployment.status == "failed"
    assert fleet.ran() == [0, 1, 1, 1, 1, 1]
    left = deployment.targets.get(server__name="web-0")
    assert left.status == "skipped"
    assert left.error == "Not started: the worker was lost before the restart; nothing was changed."


# --- slices ------------------------------------------------------------------------------------------


@pytest.fixture
def running(fleet: Fleet) -> Deployment:
    """One that this process carries out under a claim, and none of whose servers were begun."""
    deployment = fleet.launch()
    assert deployment.claim_for_worker("c" * 32)
    return deployment


def taken_by(deployment: Deployment, *known: int) -> Slice:
    """The slice that a helper is given."""
    found = Slice.take(deployment, "turn", HELPER, known)
    assert found is not None
    return found


def as_helper(deployment: Deployment) -> Deployment:
    """The same as a helper has it."""
    found = Deployment.objects.get(pk=deployment.pk)
    found.helper = HELPER
    return found


def test_who_has_no_slice_writes_nothing(running) -> None:
    numbers = [*running.targets.values_list("pk", flat=True)]
    Slice.cut(running, "turn", numbers, 4, 0)
    assert [each.servers for each in Slice.cut(running, "turn", numbers, 4, 0)] == [numbers[:4], numbers[4:]]
    helper = as_helper(running)
    target = Target.objects.get(pk=numbers[0])
    target.deployment = helper
    assert not target.move(Target.Status.RESTARTING)
    taken = taken_by(helper)
    assert target.move(Target.Status.RESTARTING)
    assert Slice.beat(helper)
    assert taken.finish()
    assert not target.move(Target.Status.CHECKING)
    assert Slice.beat(helper), "it has nothing, and was not lost"


def test_who_was_lost_takes_no_further_slice(running) -> None:
    numbers = [*running.targets.values_list("pk", flat=True)]
    Slice.cut(running, "turn", numbers, 2, 0)
    helper = as_helper(running)
    taken = taken_by(helper)
    assert Slice.take(helper, "stage", HELPER) is None
    assert Slice.lose(running.pk, HELPER)
    assert not Slice.beat(helper)
    assert Slice.take(helper, "turn", HELPER) is None
    assert not taken.finish()
    left = Slice.take_lost(running)
    assert left is not None
    assert (left.servers, left.helper, left.is_rest) == (taken.servers, running.claim, True)
    assert Slice.take_lost(running) is None
    assert Slice.take(helper, "turn", HELPER) is None
    target = Target.objects.get(pk=numbers[0])
    target.deployment = helper
    assert not target.move(Target.Status.RESTARTING)


def test_what_a_helper_was_given_and_has_not_heard_of_it_is_given_again(running) -> None:
    numbers = [*running.targets.values_list("pk", flat=True)]
    Slice.cut(running, "turn", numbers, 2, 0)
    first = taken_by(running)
    assert taken_by(running).pk == first.pk
    assert taken_by(running, first.pk).pk != first.pk


def test_slices_of_an_earlier_coordinator_are_void(running) -> None:
    numbers = [*running.targets.values_list("pk", flat=True)]
    (first, *_rest) = Slice.cut(running, "turn", numbers, 2, 0)
    assert running.declare_lost("was lost")
    assert Slice.take(as_helper(running), "turn", HELPER) is None
    assert not help_with(running.pk, first.pk, HELPER)
    assert not help_with(running.pk, first.pk + 99, HELPER)
    assert not help_with(running.pk + 99, first.pk, HELPER)


def test_one_name_of_a_place_has_it_where_several_workers_ask(running, fleet) -> None:
    web, other = fleet.servers[0], fleet.servers[1]
    assert Lease.take(web, "/srv/shop", running, "place", is_shared=True) is None
    assert Lease.take(web, "/srv/shop", running, "place", is_shared=True) is None
    with pytest.raises(TakenError) as error:
        Lease.take(other, "/srv/shop", running, "place", is_shared=True)
    assert error.value.server == web.pk
    assert Lease.take(other, "/srv/shop", running, "place") is None, "where one worker does all, it knows both"


def test_a_line_of_whoever_was_lost_is_not_written(running) -> None:
    numbers = [*running.targets.values_list("pk", flat=True)]
    Slice.cut(running, "turn", numbers, 2, 0)
    helper = as_helper(running)
    Slice.take(helper, "turn", HELPER)
    own, theirs = Log(running, Masker([])), Log(helper, Masker([]))
    own.say("one")
    own.flush()
    for log in (own, theirs):
        log.share()
    theirs.say("two")
    theirs.flush()
    own.say("three")
    own.flush()
    Slice.lose(running.pk, HELPER)
    theirs.say("never")
    theirs.flush()
    own.say("four")
    own.flush()
    found = LogLine.objects.filter(deployment=running).order_by("id").values_list("number", "content")
    assert [*found] == [(1, "one"), (2, "two"), (3, "three"), (4, "four")]


def test_who_stands_still_within_the_lock_keeps_nobody_waiting(running, monkeypatch) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite's file belongs to one machine, which is frozen as a whole")
    monkeypatch.setattr("people.writes.STANDSTILL", 1)
    has_lock, may_end = threading.Event(), threading.Event()
    refused = []

    def stand_still() -> None:
        try:
            with transaction.atomic():
                Slice.take(running, "turn", HELPER)
                has_lock.set()
                may_end.wait(PATIENCE)
        except DatabaseError as error:
            refused.append(error)
        finally:
            connection.close()

    helper = threading.Thread(target=stand_still)
    helper.start()
    assert has_lock.wait(PATIENCE)
    assert running.beat()
    may_end.set()
    wait_for_end(helper)
    assert len(refused) == 1


# --- found by attacks -----------------------------------------------------------------------------


def helps_first(deployment: int, number: int) -> bool:
    """A call that is heard at once: the helper has taken all that it can before the coordinator takes anything."""

    def work() -> None:
        help_with(deployment, number, HELPER)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    wait_for_end(thread)
    return True


def lost_during_two_steps(fleet: Fleet, ledger: Path, cue: Cue) -> Deployment:
    """One whose coordinator is killed while a helper's steps on two servers wait; they end before it hears of that."""
    deployment = fleet.launch()
    assert deployment.claim_for_worker(CLAIM)
    numbers = [*deployment.targets.values_list("pk", flat=True)]
    (first, *_rest) = Slice.cut(deployment, "turn", numbers[:2], 2, 0)
    helper = threading.Thread(target=help_with, args=[deployment.pk, first.pk, HELPER])
    helper.start()
    wait_until(lambda: ledger.exists() and len(ledger.read_text().splitlines()) == 2, "two steps that say so")
    assert work_horse_killed(deployment.pk, CLAIM, 9)
    cue.give()
    wait_for_end(helper)
    assert settle_lost(deployment.pk)
    return deployment


def test_steps_of_a_living_helper_are_not_forgotten_when_the_coordinator_is_lost(fleet) -> None:
    """Its step ends between the loss of the coordinator and the helper's next look: the record of it is deleted."""
    cue = Cue(fleet.folder)
    ledger = fleet.folder / "ledger"
    for moment, rest in (("before", str(cue)), ("after", "true")):
        text = f'echo "$DEPLOY_SERVER {moment}" >>{ledger}\n{rest}'
        fleet.project.steps.create(name=moment, moment=moment, script=text, timeout=60)
    deployment = lost_during_two_steps(fleet, ledger, cue)
    found = sorted(ledger.read_text().splitlines())
    runs = [*StepRun.objects.order_by("pk").values_list("moment", "status")]
    kept = [*deployment.targets.filter(server_name__in=["web-0", "web-1"]).values_list("server_name", "kept_out")]
    # each was drained, so each is put back, or is said to stay out
    assert runs.count(("before", "done")) == 2, (runs, found, kept)
    assert found == ["web-0 after", "web-0 before", "web-1 after", "web-1 before"]


def test_a_step_after_of_a_living_helper_runs_once_when_the_coordinator_is_lost(fleet) -> None:
    cue = Cue(fleet.folder)
    ledger = fleet.folder / "ledger"
    text = f'echo "$DEPLOY_SERVER after" >>{ledger}\n{cue}'
    fleet.project.steps.create(name="after", moment="after", script=text, timeout=60)
    lost_during_two_steps(fleet, ledger, cue)
    assert sorted(ledger.read_text().splitlines()) == ["web-0 after", "web-1 after"]


def test_one_that_has_lost_it_leaves_the_slices_of_its_successor(running) -> None:
    """It was lost in a pause behind a shared batch, and wakes while the next batch is shared by another one."""
    with Run(running) as run:
        run.work.share()
        assert running.pause(1)
        lost = Deployment.objects.get(pk=running.pk)
        assert lost.park_for_lost(None)
        assert lost.continue_rollout()
        successor = Deployment.objects.get(pk=running.pk)
        assert successor.claim_parked("d" * 32)
        Slice.cut(successor, "turn", [*running.targets.values_list("pk", flat=True)], 2, 0)
        assert Slice.take(successor, "turn", HELPER) is not None
    assert Slice.objects.of(successor).open().count() == 3


def test_two_names_of_one_machine_in_a_small_batch_behind_a_shared_one(fleet) -> None:
    fleet.group.servers.add(make_server(fleet.machines[5], name="zz-twin"))
    fleet.project.batches = "5, 100%"
    fleet.project.may_stop_last_healthy = True
    fleet.project.save()
    deployment = fleet.launch()
    carry_out(deployment.pk, "", Others(lambda *_numbers: True))
    deployment.refresh_from_db()
    ends = [*deployment.targets.values_list("server_name", "batch", "status", "error")]
    assert (deployment.status, deployment.error_message) == ("success", ""), ends


def test_two_names_of_one_machine_are_deployed_to_by_a_helper(fleet) -> None:
    """Before it is shared, the second name takes the place; the first, which does the work, is then sent behind it."""
    fleet.group.servers.add(make_server(fleet.machines[5], name="zz-twin"))
    deployment = fleet.launch("full")
    carry_out(deployment.pk, "", Others(helps_first))
    deployment.refresh_from_db()
    ends = [*deployment.targets.values_list("server_name", "status", "error", "same_as__server_name")]
    assert fleet.ran() == [1] * 6, ends
    assert (deployment.status, deployment.error_message) == ("success", ""), ends


def test_a_cut_link_while_it_is_read_what_helpers_did_changes_no_end(fleet, monkeypatch) -> None:
    fleet.project.steps.create(name="after", moment="after", script="true", timeout=60)
    cut: list[int] = []
    read_again = Journal.read_again

    def cut_once(self: Journal, targets: Any) -> None:
        if not cut:
            cut.append(1)
            raise OperationalError("the connection was closed")
        read_again(self, targets)

    monkeypatch.setattr(Journal, "read_again", cut_once)
    deployment = fleet.launch()
    carry_out(deployment.pk, "", Others(helps_first))
    deployment.refresh_from_db()
    assert cut
    ends = {*deployment.targets.values_list("status", flat=True)}
    assert (deployment.status, ends) == ("success", {"success"}), deployment.error_message


def test_a_cut_link_of_the_coordinator_leaves_nothing_unknown_at_a_helper(fleet, monkeypatch) -> None:
    """Others are done when what one server has raised is raised, where one worker does all."""
    cue, arrive, has_begun = Cue(fleet.folder), ServerRun.arrive, threading.Event()
    fleet.script(2, cue)
    fleet.script(3, cue)

    def fail(self: ServerRun) -> None:
        if self.target.server_name == "web-0":
            has_begun.set()
            cue.wait()
            threading.Timer(8, cue.give).start()
            raise OperationalError("the connection was closed")
        arrive(self)

    def help_then(deployment: int, number: int) -> None:
        has_begun.wait(PATIENCE)
        help_with(deployment, number, HELPER)
        connection.close()

    monkeypatch.setattr(ServerRun, "arrive", fail)
    called: list[threading.Thread] = []

    def call(*numbers: int) -> bool:
        if not called:
            called.append(threading.Thread(target=help_then, args=numbers))
            called[0].start()
        return True

    deployment = fleet.launch()
    fleet.script(1, f"until [ -e {fleet.folder}/ran-2 ]; do sleep 0.02; done")
    with pytest.raises(OperationalError, match="closed"):
        carry_out(deployment.pk, "", Others(call))
    wait_for_end(called[0])
    ends = [*deployment.targets.values_list("server_name", "status", "error")]
    assert set(deployment.targets.filter(server_name__in=["web-2", "web-3"]).values_list("status", flat=True)) == {
        "success"
    }, ends


def test_a_step_of_a_helper_does_not_give_a_lost_coordinator_its_claim_back(running) -> None:
    """The update that holds the row is asked anew behind a lock, but its subselect is not."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer")
    numbers = [*running.targets.values_list("pk", flat=True)]
    Slice.cut(running, "turn", numbers, 2, 0)
    Slice.take(running, "turn", HELPER)
    helper = as_helper(running)
    target = Target.objects.get(pk=numbers[0])
    target.deployment = helper
    run = StepRun(deployment=helper, target=target, step="x", moment="before", action="restart", key="k" * 32)
    won: list[bool] = []

    def begin() -> None:
        won.append(run.begin())
        connection.close()

    thread = threading.Thread(target=begin)
    with transaction.atomic():
        assert running.declare_lost("was lost")
        thread.start()
        time.sleep(1)  # it waits for the row
    wait_for_end(thread)
    found = Deployment.objects.get(pk=running.pk)
    assert (won, found.claim, found.status) == ([False], "", "interrupted")


def test_a_helper_that_stands_still_in_a_move_keeps_nobody_waiting(running, monkeypatch) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite's file belongs to one machine, which is frozen as a whole")
    monkeypatch.setattr("people.writes.STANDSTILL", 1)
    numbers = [*running.targets.values_list("pk", flat=True)]
    Slice.cut(running, "turn", numbers, 2, 0)
    Slice.take(running, "turn", HELPER)
    stands, may_end = threading.Event(), threading.Event()

    def stand_still(_ids: Any) -> None:
        if threading.current_thread().name == "frozen":
            stands.set()
            may_end.wait(PATIENCE)

    monkeypatch.setattr("deployer.models.deployment.renew_of_targets", stand_still)

    def move(deployment: Deployment) -> None:
        target = Target.objects.get(pk=numbers[0])
        target.deployment = deployment
        try:
            target.move(Target.Status.RESTARTING)
        except DatabaseError:  # it was cut off
            pass
        finally:
            connection.close()

    frozen = threading.Thread(target=move, args=[as_helper(running)], name="frozen")
    frozen.start()
    assert stands.wait(PATIENCE)
    Slice.lose(running.pk, HELPER)
    other = threading.Thread(target=move, args=[running], name="other")
    other.start()
    other.join(8)
    is_stuck = other.is_alive()
    may_end.set()
    wait_for_end(frozen)
    wait_for_end(other)
    assert not is_stuck
