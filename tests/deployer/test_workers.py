"""Workers on any number of machines: who is there and does what, and which of them take what."""

import json
import subprocess
from datetime import timedelta
from io import StringIO
from typing import Any

import django_rq
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.utils import timezone
from rq.serializers import JSONSerializer

from deployer.host.kinds import QUEUES, Kind, kinds_of, queues_of
from deployer.host.units import apart, next_steps
from deployer.management.commands.up import _workers
from deployer.queue.job import DeploymentJob
from deployer.queue.rollcall import roll_call
from deployer.queue.sending import asked_once, enqueue_look
from deployer.queue.worker import DeploymentWorker
from deployer.watching.running import of_workers
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.packaging.test_units import PLACE, lines
from tests.parts.programs import stop_process, wait_until
from tests.parts.queue import QueueServer
from tests.parts.worker import MANAGE, process_environment

pytestmark = pytest.mark.django_db


def present(queue: QueueServer, name: str, queues: str = "hooks,default", job: str = "", **more: str) -> None:
    """Have the queue know a worker, which is at a job."""
    now = timezone.now().isoformat()
    row = {
        "queues": queues,
        "state": "busy" if job else "idle",
        "hostname": "build-1",
        "pid": "77",
        "birth": now,
        "last_heartbeat": now,
    }
    mapping: dict[Any, Any] = row | more
    queue.client.hset(f"rq:worker:{name}", mapping=mapping)
    queue.client.sadd("rq:workers", f"rq:worker:{name}")
    if job:
        queue.client.sadd(f"rq:worker:{name}:executions", f"{job}:0123abcd")


def workers(*arguments: str) -> tuple[int, str, str]:
    """Ask `deployer workers`; gives its exit status and what it printed."""
    out, err = StringIO(), StringIO()
    try:
        call_command("workers", *arguments, stdout=out, stderr=err)
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_everybody_is_there_with_machine_queues_and_what_they_do(queue_server: QueueServer) -> None:
    it = make_deployment(make_project(name="shop"), make_group(make_server()))
    hours_ago = (timezone.now() - timedelta(hours=2)).isoformat()
    present(queue_server, "a", job=f"deployment-{it.pk}-resume", birth=hours_ago)
    present(queue_server, "b", "follow", hostname="near-servers", job="command-7", last_heartbeat=hours_ago)
    present(queue_server, "c", "hooks,look", hostname="near-servers", pid="78", job="upkeep")
    present(queue_server, "d", "follow", hostname="near-servers", pid="79")
    present(queue_server, "e", "hooks,default,slices", hostname="second", pid="80", job=f"deployment-{it.pk}-slice-4")
    queue_server.client.rpush("rq:queue:default", "deployment-9", "command-4")
    status, told, found = workers()
    assert status == 0
    assert found.startswith("! A worker that was at work has shown no sign of life lately.\n")
    first, second, third, fourth, fifth, last = told.splitlines()
    assert first.startswith(
        f"build-1, process 77 | deploy | deployment #{it.pk} of shop: Pending | there for 2\xa0hours"
    )
    assert " | last sign of life " in first
    assert second.startswith("near-servers, process 77 | follow | command #7 | ")
    assert second.endswith("last sign of life 2\xa0hours ago | ! silent")
    assert "| look | deletes and packs what is old |" in third
    assert "| follow | waits |" in fourth
    assert fifth.startswith(f"second, process 80 | deploy | helps with deployment #{it.pk} of shop: Pending | ")
    assert last == "Waiting: build 0, deploy 2, look 0, follow 0, hooks 0, slices 0"


def test_programs_read_the_same_as_one_object(queue_server: QueueServer) -> None:
    it = make_deployment(make_project(name="shop"), make_group(make_server()))
    present(queue_server, "a", job=f"deployment-{it.pk}")
    status, told, _found = workers("--json")
    answer = json.loads(told)
    (row,) = answer["workers"]
    assert (status, answer["waiting"]) == (
        0,
        {"build": 0, "deploy": 0, "look": 0, "follow": 0, "hooks": 0, "slices": 0},
    )
    assert (row["name"], row["machine"], row["pid"], row["takes"]) == ("a", "build-1", 77, ["deploy"])
    assert (row["deployment"], row["project"], row["status"], row["is_alive"]) == (it.pk, "shop", "pending", True)
    assert row["since"]
    assert row["last_sign"]


@pytest.mark.parametrize("queues", ["", "hooks,look", "follow"])
def test_no_worker_for_deployments_is_said_and_is_a_status(queues: str, queue_server: QueueServer) -> None:
    if queues:
        present(queue_server, "a", queues)
    status, told, found = workers()
    assert status == 1
    assert "✘ No worker takes deployments: launches wait.\n" in found
    assert "Start “deployer up”, or “deployer worker”." in found
    assert ("The queue knows no worker." in told) is not bool(queues)


def test_a_queue_that_does_not_answer_is_said_and_is_a_status(queue_server: QueueServer) -> None:
    queue_server.stop()
    for arguments in ((), ("--json",)):
        status, told, found = workers(*arguments)
        assert (status, told) == (2, "")
        assert found.startswith("✘ The queue server does not answer: launches wait, and nothing is lost.\n")


def test_what_others_wrote_on_the_queue_is_printed_as_text(queue_server: QueueServer) -> None:
    present(queue_server, "a", hostname="x\x1b[31m\nred", pid="no number", job="deployment-1\x1b[0m")
    _status, told, _found = workers()
    assert "\x1b" not in told
    assert told.count("\n") == 2


# --- which workers take what -----------------------------------------------------------------------


def test_queues_are_named_and_a_wrong_name_is_refused_with_those_that_there_are() -> None:
    assert kinds_of("") == (Kind.BUILD, Kind.DEPLOY, Kind.LOOK, Kind.FOLLOW)
    assert kinds_of(" Follow, look ") == (Kind.LOOK, Kind.FOLLOW)
    assert queues_of(Kind) == ["hooks", "builds", "default", "slices", "look", "follow"]
    assert set(QUEUES) == set(queues_of(Kind))
    with pytest.raises(ImproperlyConfigured, match=r"names 'lok'.*: there are build, deploy, look, follow\."):
        kinds_of("deploy,lok")
    with pytest.raises(CommandError, match="there is no queue “lok”: there are build, deploy, look, follow"):
        call_command("worker", "lok")


@pytest.mark.parametrize(
    ("named", "argument", "taken"),
    [
        ("deploy,follow", "", "hooks,default,slices"),
        ("", "", "hooks,builds,default,slices"),
        ("build", "", "hooks,builds"),
        ("look,follow", "", "hooks,look,follow"),
        ("deploy", "look follow", "hooks,look,follow"),
    ],
)
def test_a_worker_takes_what_its_machine_is_to_take(
    named: str, argument: str, taken: str, queue_server: QueueServer, transactional_db: None
) -> None:
    environment = process_environment() | {"DEPLOYER_QUEUES": named, "DEPLOYER_MACHINE_NAME": "machine 2"}
    command = [*MANAGE, "worker", *argument.split()]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: queue_server.client.smembers("rq:workers") or process.poll() is not None, "the worker")
        called = roll_call()
        assert called is not None
        (it,) = called.workers
        assert queue_server.client.hget(f"rq:worker:{it.name}", "queues") == taken.encode()
        assert (it.machine, it.pid) == ("machine 2", process.pid)
    finally:
        stop_process(process)


def test_everything_in_one_starts_the_workers_of_this_machine() -> None:
    def started(named: str) -> list[str]:
        return [f"{it.name}: {' '.join(map(str, it.command[3:]))}" for it in _workers(2, kinds_of(named))]

    assert started("") == ["worker-1: build deploy", "worker-2: build deploy", "look: look", "follow: follow"]
    assert started("build,look") == ["worker-1: build", "worker-2: build", "look: look"]
    assert started("look") == ["look: look"]
    assert started("deploy") == ["worker-1: deploy", "worker-2: deploy"]


def test_there_are_units_for_the_workers_of_this_machine() -> None:
    def workers(named: str) -> set[str]:
        units = apart(PLACE, kinds_of(named))
        assert all(("worker@1" in step) is ("deploy" in named) for step in next_steps(units) if "worker" in step)
        found = {
            lines(text)["ExecStart"].partition(" ")[2] for name, text in units.items() if name.endswith(".service")
        }
        return {it for it in found if it.startswith("worker")}

    assert workers("deploy") == {"worker"}
    assert workers("look,follow") == {"worker look", "worker follow"}


def test_a_machine_that_is_to_take_something_else_is_not_told_to_start_it(queue_server, settings) -> None:
    settings.DEPLOYER_QUEUES = kinds_of("look")
    found = {it.subject: it.remedy for it in of_workers(roll_call())}
    assert found["workers"].endswith("DEPLOYER_QUEUES does not name “deploy”.")
    assert found["workers-look"] == "Start “deployer worker look”."
    assert "Start “deployer worker follow”. Those of this machine" in found["workers-follow"]


# --- workers and queues that are gone ---------------------------------------------------------------


def test_looks_do_not_wait_for_a_worker_whose_machine_is_gone(
    queue_server: QueueServer, transactional_db: None
) -> None:
    hours_ago = (timezone.now() - timedelta(hours=2)).isoformat()
    present(queue_server, "gone", "hooks,look", last_heartbeat=hours_ago)
    queue_server.client.sadd("rq:workers:look", "rq:worker:gone", "rq:worker:expired")
    assert enqueue_look()
    assert queue_server.client.lrange("rq:queue:default", 0, -1) == [b"look"]
    present(queue_server, "there", "hooks,look")
    queue_server.client.sadd("rq:workers:look", "rq:worker:there")
    assert enqueue_look()
    assert queue_server.client.lrange("rq:queue:look", 0, -1) == [b"look"]


def test_a_worker_that_is_at_work_does_not_end_with_the_queue(queue_server: QueueServer, caplog) -> None:
    link = asked_once()
    worker = DeploymentWorker([django_rq.get_queue(connection=link)], connection=link)
    worker.register_birth()
    name = "deployer.queue.jobs.run_deployment"
    job = DeploymentJob.create(name, (7,), id="deployment-7", connection=link, serializer=JSONSerializer)
    job.started_at = timezone.now()
    execution = worker.prepare_execution(job)
    called = roll_call()
    assert called is not None
    assert [it.deployment for it in called.workers] == [7]
    queue_server.stop()
    worker.maintain_heartbeats(job, execution)
    assert "deployment-7 goes on while the queue does not answer" in caplog.text
    queue_server.start()
    worker.maintain_heartbeats(job, execution)
