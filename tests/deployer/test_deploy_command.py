"""`deploy` and `cancel` as programs: exit statuses, what goes to which stream, and the one JSON object."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import timezone

from deployer.log.reading import LOG_ROWS
from deployer.models import Deployment, LogLine, Target
from projects.models import Project
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.marks import rarely
from tests.parts.programs import PATIENCE, wait_until
from tests.parts.queue import QueueServer
from tests.parts.worker import MANAGE, process_environment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

FIELDS = [
    "id", "project_id", "branch", "status", "deployment_type", "commit_hash", "commit_message", "error_message",
    "created_at", "created_by", "release", "rollback_from", "retry_of", "paused_at", "environment", "targets",
    "trigger", "server_group_ids", "server_groups", "started_at", "finished_at", "is_over", "is_paused",
    "cancel_requested_at", "force_requested_at", "url", "launched_for",
    "note", "asks_approval", "paused_until", "is_asking", "roll_back_requested_at",
    "log_gone_at", "evidence_gone_at",
]  # fmt: skip
TARGET_FIELDS = [
    "server", "status", "exit_code", "error", "proof", "release_before", "release_after",
    "reason", "batch", "is_over", "started_at", "finished_at", "kept_out",
]  # fmt: skip

Status = Deployment.Status
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def shop(queue_server: QueueServer) -> Project:
    """A project that can be launched, on a queue that nobody takes jobs from."""
    make_group(make_server(name="web-1"), make_server(name="web-2"), name="web")
    return make_project(name="shop")


def _hear_ctrl_c() -> None:
    """A shell starts background commands, this suite perhaps, with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start() -> Iterator[Start]:
    """``start("deploy", ...)`` runs a command as a program."""
    programs: list[subprocess.Popen[str]] = []

    def begin(*args: str) -> subprocess.Popen[str]:
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        programs.append(subprocess.Popen([*MANAGE, *args], env=process_environment(), preexec_fn=_hear_ctrl_c, **pipes))
        return programs[-1]

    yield begin
    for program in programs:
        if program.poll() is None:
            program.kill()
        program.communicate()


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MANAGE, *args], env=process_environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def claimed() -> Deployment:
    """The deployment that a program has launched, taken as a worker takes it."""
    wait_until(Deployment.objects.exists, "the launch")
    deployment = Deployment.objects.get()
    assert deployment.claim_for_worker()
    return deployment


def log(deployment: Deployment, *lines: str, target: Target | None = None) -> None:
    LogLine.objects.bulk_create(
        LogLine(deployment=deployment, target=target, content=line, timestamp=timezone.now()) for line in lines
    )


def test_without_wait_it_launches_and_says_where_to_look(shop: Project) -> None:
    done = run("deploy", "shop", "--group", "web", "--branch", "v1.2", "--type", "full")
    deployment = Deployment.objects.get()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Deployment #{deployment.pk}: http://127.0.0.1:8000/deployments/{deployment.pk}/\n"
    assert (deployment.status, deployment.branch, deployment.trigger) == ("pending", "v1.2", "cli")


def test_groups_are_deployed_to_in_the_order_they_are_given(shop: Project) -> None:
    make_group(make_server(name="a-first-by-name"), name="other")
    run("deploy", "shop", "--group", "web", "--group", "other", "--group", "web", "--type", "restart_only")
    deployment = Deployment.objects.get()
    assert [target.server_name for target in deployment.targets.order_by("id")] == ["web-1", "web-2", "a-first-by-name"]
    assert deployment.branch == ""


def test_batches_and_budget_are_given_for_one_launch(shop: Project) -> None:
    assert run("deploy", "shop", "--group", "web", "--batches", "x").returncode == 2
    assert run("deploy", "shop", "--group", "web", "--max-failures", "-1").returncode == 2
    assert run("deploy", "shop", "--group", "web", "--batches", "1", "--max-failures", "3").returncode == 0
    plan: Any = Deployment.objects.get().plan
    assert (plan["batches"], plan["max_failures"]) == ("1", 3)


def test_json_is_one_object_and_everything_else_goes_to_standard_error(shop: Project) -> None:
    done = run("deploy", "shop", "--group", "web", "--json")
    shown = json.loads(done.stdout)
    assert list(shown) == FIELDS
    assert [list(target) for target in shown["targets"]] == [TARGET_FIELDS] * 2
    assert shown["id"] == Deployment.objects.get().pk
    assert shown["status"] == "pending"
    assert "Deployment #" in done.stderr


@pytest.mark.parametrize(
    ("end", "exit_status"),
    [
        (Status.FAILED, 1),
        (Status.EXPIRED, 5),
        rarely(Status.SUCCESS, 0),
        rarely(Status.CANCELLED, 3),
        rarely(Status.INTERRUPTED, 4),
    ],
)
def test_wait_prints_the_log_and_exits_by_how_it_ended(
    shop: Project, start: Start, end: Deployment.Status, exit_status: int
) -> None:
    program = start("deploy", "shop", "--group", "web", "--wait")
    deployment = claimed()
    first, second = deployment.targets.order_by("id")
    log(deployment, "cloning")
    log(deployment, "restarted", target=first)
    first.move(
        Target.Status.SUCCESS, exit_code=0, proof={"verdict": "replaced", "sentence": "Process 12 was replaced by 34."}
    )
    second.move(Target.Status.FAILED, exit_code=7, error="The script ended with 7.")
    deployment.end(end, "web-2 failed." if end != Status.SUCCESS else "")

    out, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == exit_status
    assert "\ncloning\nweb-1 | restarted\n" in out
    assert "web-1: Success; Process 12 was replaced by 34.\n" in out
    assert "web-2: Failed; The script ended with 7.\n" in out
    assert f"Deployment #{deployment.pk}: {end.label}." in out
    assert ("web-2 failed." in out) == (end != Status.SUCCESS)
    assert err == ""


def test_a_proof_that_is_what_is_wrong_is_said_once(shop: Project, start: Start) -> None:
    program = start("deploy", "shop", "--group", "web", "--wait")
    deployment = claimed()
    for target, end in zip(deployment.targets.order_by("id"), ("unchanged", "failed"), strict=True):
        proof = {"verdict": "unchanged", "sentence": "Process 12 still runs."}
        error = "Process 12 still runs." if end == "unchanged" else "Not healthy: no answer."
        target.move(Target.Status(end), proof=proof, error=error)
    deployment.end(Status.FAILED, "2 of 2 servers failed.")
    out, _err = program.communicate(timeout=PATIENCE)
    assert "web-1: Unchanged; Process 12 still runs.\n" in out
    assert "web-2: Failed; Process 12 still runs; Not healthy: no answer.\n" in out


def test_wait_with_json_prints_the_end_as_the_only_thing_on_standard_output(shop: Project, start: Start) -> None:
    program = start("deploy", "shop", "--group", "web", "--wait", "--json")
    deployment = claimed()
    log(deployment, "a line of the log")
    deployment.end(Status.FAILED, 'broken: "quotes" <b> \u2028 and\nlines')
    out, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 1
    assert out.count("\n") == 1
    assert json.loads(out)["status"] == "failed"
    assert json.loads(out)["error_message"] == 'broken: "quotes" <b> \u2028 and\nlines'
    assert "a line of the log" in err


def test_lines_arrive_while_it_runs(shop: Project, start: Start) -> None:
    program = start("deploy", "shop", "--group", "web", "--wait")
    deployment = claimed()
    assert program.stdout is not None
    assert "Deployment #" in program.stdout.readline()
    log(deployment, "early")
    assert program.stdout.readline() == "early\n"
    assert program.poll() is None
    deployment.end(Status.SUCCESS)
    program.communicate(timeout=PATIENCE)


def test_no_line_is_lost_or_printed_twice_when_there_are_more_than_one_answer_holds(
    shop: Project, start: Start
) -> None:
    count = 2 * LOG_ROWS + 7
    program = start("deploy", "shop", "--group", "web", "--wait")
    deployment = claimed()
    log(deployment, *(f"line {number}" for number in range(count)))
    deployment.end(Status.SUCCESS)
    out, _ = program.communicate(timeout=PATIENCE)
    assert [line for line in out.splitlines() if line.startswith("line ")] == [f"line {n}" for n in range(count)]


def test_a_deployment_that_is_deleted_while_it_is_watched_ends_the_command_with_a_sentence(
    shop: Project, start: Start
) -> None:
    program = start("deploy", "shop", "--group", "web", "--wait")
    deployment = claimed()
    number = deployment.pk
    deployment.delete()
    _out, problem = program.communicate(timeout=30)
    assert (program.returncode, "Traceback" in problem) == (2, False)
    assert f"There is no deployment #{number}." in problem


def test_log_lines_cannot_command_the_terminal(shop: Project, start: Start) -> None:
    program = start("deploy", "shop", "--group", "web", "--wait")
    deployment = claimed()
    log(deployment, "\x1b[31mred\x1b[0m \x1b]0;owned\x07 \x1b[2J\x1b[Hclear \x9b31m <b>$(id)</b>\x08\r")
    deployment.end(Status.SUCCESS)
    out, _ = program.communicate(timeout=PATIENCE)
    assert "\nred  clear " in out
    assert "<b>$(id)</b>\n" in out
    assert not set(out) & set("\x1b\x07\x08\x9b\r")


def test_somebody_is_told_when_no_worker_comes(shop: Project, start: Start) -> None:
    program = start("deploy", "shop", "--group", "web", "--wait")
    assert program.stderr is not None
    assert "deployer up" in program.stderr.readline()
    assert program.poll() is None, "it goes on waiting"
    claimed().end(Status.SUCCESS)
    program.communicate(timeout=PATIENCE)
    assert program.returncode == 0


def test_ctrl_c_stops_the_watching_and_not_the_deployment(shop: Project, start: Start) -> None:
    program = start("deploy", "shop", "--group", "web", "--wait", "--json")
    deployment = claimed()
    log(deployment, "under way")
    assert program.stderr is not None
    while program.stderr.readline() != "under way\n":
        assert program.poll() is None
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 130
    assert out == ""
    assert f"deployer cancel {deployment.pk}" in err
    assert "Traceback" not in err
    deployment.refresh_from_db()
    assert deployment.status == Status.CLONING
    assert deployment.cancel_requested_at is None


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["nope", "--group", "web"], "There is no project “nope”. Known names: shop."),
        (["shop", "--group", "nope"], "There is no server group “nope”. Known names: web."),
        (["$(id)\n", "--group", "web"], "There is no project “'$(id)\\n'”."),
        rarely(["shop"], "--group"),
        rarely(["shop", "--group", "web", "--type", "half"], "invalid choice: 'half'"),
        rarely(["shop", "--group", "web", "--branch", " "], "needs a branch"),
        (["shop", "--group", "web", "--branch=--upload-pack=touch /tmp/x"], "is not the name of a branch"),
        rarely(["shop", "--group", "web", "--branch", "b" * 101], "at most 100 characters"),
    ],
)
def test_bad_usage_exits_with_2_and_a_sentence(shop: Project, args: list[str], expected: str) -> None:
    done = run("deploy", *args)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not Deployment.objects.exists()


def test_a_second_launch_is_refused_and_the_first_is_named(shop: Project) -> None:
    first = make_deployment(shop, ServerGroup.objects.get())
    done = run("deploy", "shop", "--group", "web", "--json")
    assert done.returncode == 2
    assert f"(#{first.pk}): wait for it to finish, or cancel it." in done.stderr
    assert done.stdout == ""


def test_cancel_ends_one_that_has_not_begun(shop: Project) -> None:
    deployment = make_deployment(shop, ServerGroup.objects.get())
    done = run("cancel", str(deployment.pk))
    deployment.refresh_from_db()
    assert (done.returncode, deployment.status) == (0, "cancelled")
    assert "is cancelled; it had not started" in done.stdout


def test_cancel_asks_a_running_one_to_stop(shop: Project) -> None:
    deployment = make_deployment(shop, ServerGroup.objects.get())
    deployment.claim_for_worker()
    done = run("cancel", str(deployment.pk))
    deployment.refresh_from_db()
    assert (done.returncode, deployment.status) == (0, "cloning")
    assert deployment.cancel_requested_at is not None
    assert deployment.force_requested_at is None
    assert "was asked to stop:" in done.stdout


def test_a_forced_cancel_asks_for_the_scripts_to_be_ended_too(shop: Project) -> None:
    deployment = make_deployment(shop, ServerGroup.objects.get())
    deployment.claim_for_worker()
    assert "was asked to stop at once" in run("cancel", str(deployment.pk), "--force").stdout
    deployment.refresh_from_db()
    assert deployment.force_requested_at is not None


def test_cancel_refuses_what_has_ended_and_what_is_not_there(shop: Project) -> None:
    deployment = make_deployment(shop, ServerGroup.objects.get())
    deployment.request_cancel()
    ended = run("cancel", str(deployment.pk))
    assert ended.returncode == 2
    assert "has already ended (cancelled)" in ended.stderr
    for number in ("4711", "99999999999999999999999"):
        missing = run("cancel", number)
        assert missing.returncode == 2
        assert f"There is no deployment #{number}." in missing.stderr
