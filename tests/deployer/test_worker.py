"""The queue, the worker process and what is left when one of them is gone."""

import os
import secrets
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from deployer.engine.routines import carry_out, settle_lost
from deployer.launching.rules import LaunchRefusedError
from deployer.log.masking import Masker
from deployer.log.writing import Log
from deployer.models import Deployment, LogLine, Target
from deployer.queue import jobs
from deployer.queue.sweep import LOST_JOB, sweep, work_horse_killed
from deployer.releases.workfolders import WorkFolder
from deployer.repositories.mirror import mirror_path
from projects.frozen import NewerPlanError
from servers.errors import RunLostError
from servers.models import Server
from servers.shell import Script
from servers.ssh.shell import connect
from servers.supervised.run import SupervisedRun
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.cue import Cue
from tests.parts.programs import PATIENCE, has_ended, kill_all, processes_running, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def launched(sshd, folder, text: str) -> Deployment:
    path = folder / "restart.sh"
    path.write_text(text)
    project = make_project(deploy_script_path=str(path))
    return make_deployment(project, make_group(make_server(sshd, name="web-1")), deployment_type="restart_only")


def status(deployment: Deployment) -> str:
    return Deployment.objects.values_list("status", flat=True).get(pk=deployment.pk)


def test_a_launch_reaches_a_worker_by_its_known_name(sshd, worker, tmp_path):
    deployment = launched(sshd, tmp_path, "echo hello")
    wait_until(lambda: status(deployment) == "success", "the deployment to succeed")
    assert LogLine.objects.filter(deployment=deployment, content="hello", stream="stdout").count() == 1
    assert list(deployment.log_lines.values_list("content", flat=True))[-1].startswith("Done")


def test_a_worker_that_dies_before_it_begins_is_said_and_another_one_carries_it_out(sshd, queue_server, tmp_path):
    deployment = launched(sshd, tmp_path, "echo hello")
    assert not work_horse_killed(deployment.pk, "", signal.SIGKILL)
    told = deployment.log_lines.get()
    assert (told.level, told.content) == (
        "error",
        "The worker was killed by signal 9 before it had begun: another one will be asked.",
    )
    assert carry_out(deployment.pk)
    assert status(deployment) == "success"


def test_a_launch_that_asks_for_what_this_version_does_not_know_ends_untouched(sshd, queue_server, tmp_path):
    deployment = launched(sshd, tmp_path, f"touch {tmp_path}/ran")
    assert deployment.plan is not None
    Deployment.objects.filter(pk=deployment.pk).update(plan={**deployment.plan, "later": "before all"})
    with pytest.raises(NewerPlanError):
        jobs.run_deployment(deployment.pk)
    deployment.refresh_from_db()
    assert (deployment.status, deployment.targets.get().status) == ("failed", "skipped")
    assert "asks for what this one does not know: later. Restart the processes" in deployment.error_message
    assert not (tmp_path / "ran").exists()


def ended(deployment: Deployment) -> bool:
    return Deployment.objects.ended().filter(pk=deployment.pk).exists()


def test_after_a_work_horse_was_killed_the_server_is_asked_how_its_script_ended(sshd, worker, tmp_path):
    cue = Cue(tmp_path)
    deployment = launched(sshd, tmp_path, f"echo one; echo x >> {tmp_path}/n; {cue}; echo two")
    cue.wait()
    wait_until(lambda: deployment.log_lines.filter(content="one").exists(), "the first line")
    worker.kill_horse()
    cue.give()
    wait_until(lambda: ended(deployment), "the deployment to end")
    target = deployment.targets.get()
    assert (status(deployment), target.status, target.exit_code) == ("success", "success", 0)
    lines = list(deployment.log_lines.filter(stream="stdout").values_list("content", flat=True))
    assert lines == ["one", "two"]
    assert (tmp_path / "n").read_text() == "x\n"
    assert deployment.log_lines.filter(level="error", content__contains="killed by signal 9").exists()


def test_a_work_horse_killed_in_a_build_leaves_a_failed_deployment_with_a_sentence(sshd, worker, git_repo, tmp_path):
    nap = f"sleep 8100.{os.getpid()}"
    build = f"setsid {nap} & {nap} & wait"
    (tmp_path / "restart.sh").touch()
    project = make_project(
        git_url=git_repo.url,
        build_script=build,
        deploy_path=str(tmp_path / "srv"),
        deploy_script_path=f"{tmp_path}/restart.sh",
    )
    deployment = make_deployment(project, make_group(make_server(sshd, name="web-1")))
    wait_until(lambda: len(processes_running(nap)) == 2, "the build to begin")
    worker.kill_horse()
    wait_until(lambda: ended(deployment), "the deployment to end")
    deployment.refresh_from_db()
    assert (deployment.status, deployment.targets.get().status) == ("failed", "skipped")
    assert "killed by signal 9 while the deployment was building" in deployment.error_message
    assert not processes_running(nap)


#: A process that works in four folders until it is killed.
WORKS = """\
import sys, time
from pathlib import Path
from django.conf import settings
settings.configure(BUILDS_DIR=Path(sys.argv[1]))
from deployer.releases.workfolders import WorkFolder
folders = [WorkFolder(kind) for kind in ("send", "package", "git", "7")]
for folder in folders:
    (folder.path / "private").write_text("x")
print(*(folder.path.name for folder in folders), flush=True)
time.sleep(1000)
"""


def test_folders_of_processes_that_are_gone_are_swept_and_no_others(queue_server):
    def there() -> set[str]:
        return {path.name for path in settings.BUILDS_DIR.iterdir()}

    foreign = settings.BUILDS_DIR / "somebody-elses"
    foreign.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", WORKS, str(settings.BUILDS_DIR)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        names = set(one.stdout.readline().split())
        with WorkFolder("send") as ours:
            sweep()
            assert {*names, ours.path.name} <= there()
            one.kill()
            one.wait()
            sweep()
            assert there() == {ours.path.name, foreign.name}
    assert there() == {foreign.name}
    foreign.rmdir()


#: A process that has a script work in a folder of a deployment, and is killed.
LEAVES = """\
import subprocess, sys, time
from pathlib import Path
from django.conf import settings
settings.configure(BUILDS_DIR=Path(sys.argv[1]))
from deployer.releases.workfolders import WorkFolder
folder = WorkFolder("7", sys.argv[2])
sleep = ["env", f"DEPLOYER_RUN={sys.argv[2]}", "sleep", "1000"]
left = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, start_new_session=True)
print(left.pid, flush=True)
time.sleep(1000)
"""


def test_what_a_lost_worker_of_this_machine_left_is_ended_here_wherever_it_was_taken_over(queue_server):
    claim = secrets.token_hex(16)
    command = [sys.executable, "-c", LEAVES, str(settings.BUILDS_DIR), claim]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        left = int(one.stdout.readline())
        sweep()
        assert not has_ended(left)
        one.kill()
        one.wait()
    sweep()
    wait_until(lambda: has_ended(left), "what it left to end")
    assert not [*settings.BUILDS_DIR.glob(f"*{claim}*")]


def test_what_a_killed_git_has_locked_stops_no_later_deployment(sshd, queue_server, git_repo, tmp_path):
    (tmp_path / "restart.sh").touch()
    values = {"deploy_path": str(tmp_path / "srv"), "deploy_script_path": f"{tmp_path}/restart.sh"}
    project, group = make_project(git_url=git_repo.url, **values), make_group(make_server(sshd))
    for number in range(2):
        git_repo.commit({"a": str(number)})
        deployment = make_deployment(project, group)
        assert carry_out(deployment.pk)
        assert status(deployment) == "success"
        for name in ("packed-refs.lock", "refs/heads/main.lock"):
            (mirror_path(git_repo.url) / name).touch()


def test_a_build_leaves_no_process_behind_not_even_one_that_wiped_its_environment(sshd, worker, git_repo, tmp_path):
    nap = f"sleep 8300.{os.getpid()}"
    (tmp_path / "restart.sh").write_text("true")
    project = make_project(
        git_url=git_repo.url,
        build_script=f"(env -i setsid {nap} >/dev/null 2>&1 &)\n{nap} &\necho built",
        deploy_path=str(tmp_path / "srv"),
        deploy_script_path=f"{tmp_path}/restart.sh",
    )
    deployment = make_deployment(project, make_group(make_server(sshd)))
    wait_until(lambda: ended(deployment), "the deployment to end")
    assert status(deployment) == "success"
    assert deployment.log_lines.filter(level="warning", content__contains="2 processes").exists()
    assert not processes_running(nap)


def test_the_next_deployment_runs_after_a_work_horse_was_killed(sshd, worker, tmp_path):
    cue = Cue(tmp_path)
    first = launched(sshd, tmp_path, str(cue))
    cue.wait()
    worker.kill_horse()
    cue.give()
    wait_until(lambda: ended(first), "the deployment to end")
    (tmp_path / "restart.sh").write_text("echo again")
    second = make_deployment(first.project, *first.server_groups.all(), deployment_type="restart_only")
    wait_until(lambda: status(second) == "success", "the second one to succeed")


def test_a_launch_whose_enqueue_was_lost_is_sent_again(sshd, queue_server, tmp_path, make_worker):
    queue_server.stop()
    deployment = launched(sshd, tmp_path, "echo at last")
    assert status(deployment) == "pending"
    queue_server.start()
    assert sweep()["again"] == []  # it may still be on its way
    Deployment.objects.update(created_at=timezone.now() - LOST_JOB - timedelta(seconds=1))
    assert sweep()["again"] == [deployment.pk]
    assert sweep()["again"] == []  # it is on the queue now
    make_worker()
    wait_until(lambda: status(deployment) == "success", "the deployment to succeed")


def grow_old(deployment: Deployment) -> None:
    """As if its worker had shown no sign of life for a minute."""
    Deployment.objects.filter(pk=deployment.pk).update(heartbeat_at=timezone.now() - timedelta(minutes=1))


def test_a_deployment_without_a_sign_of_life_is_taken_over_and_one_with_it_is_not(sshd, queue_server, tmp_path):
    deployment = launched(sshd, tmp_path, "true")
    assert deployment.claim_for_worker()
    assert sweep()["lost"] == []
    grow_old(deployment)
    assert sweep()["lost"] == [deployment.pk]
    assert status(deployment) == "interrupted"
    # The worker that was taken for lost wakes up: it can write nothing any more.
    assert not deployment.beat()
    assert not deployment.end(Deployment.Status.SUCCESS)
    assert not deployment.targets.get().move(Target.Status.SUCCESS)
    log = Log(deployment, Masker([]))
    log.say("I am still here")
    log.flush()
    assert not deployment.log_lines.filter(content="I am still here").exists()
    assert settle_lost(deployment.pk)
    assert not settle_lost(deployment.pk)
    assert (status(deployment), deployment.targets.get().status) == ("failed", "skipped")


def test_a_worker_that_is_killed_whole_is_found_by_the_others(sshd, make_worker, tmp_path):
    first = make_worker()
    cue = Cue(tmp_path)
    deployment = launched(sshd, tmp_path, f"{cue}; exit 5")
    cue.wait()
    horse = first.horse
    first.kill()
    kill_all([horse])
    cue.give()
    grow_old(deployment)
    make_worker()
    wait_until(lambda: ended(deployment), "the deployment to end")
    target = deployment.targets.get()
    assert (status(deployment), target.status, target.exit_code) == ("failed", "failed", 5)


def test_a_restart_that_the_lost_worker_never_began_is_not_begun_any_more(sshd, queue_server, tmp_path):
    deployment = launched(sshd, tmp_path, f"touch {tmp_path}/begun")
    assert deployment.claim_for_worker()
    target = deployment.targets.get()
    assert target.move(Target.Status.RESTARTING)
    grow_old(deployment)
    sweep()
    settle_lost(deployment.pk)
    assert (status(deployment), deployment.targets.get().status) == ("failed", "skipped")
    with connect(Server.objects.get()) as shell:
        run = SupervisedRun(shell, target.run_key)
        with pytest.raises(RunLostError):  # the lost worker wakes up on the server
            run.run(Script("true"), lambda *_: None, timeout=PATIENCE, stop=threading.Event())
    assert not (tmp_path / "begun").exists()


def test_a_switch_without_a_restart_is_taken_back(sshd, queue_server, git_repo, tmp_path):
    git_repo.commit({"restart.sh": "echo fine"})
    project = make_project(git_url=git_repo.url, deploy_path=str(tmp_path / "srv"), deploy_script_path="restart.sh")
    group = make_group(make_server(sshd))
    first = make_deployment(project, group)
    carry_out(first.pk)
    second = make_deployment(project, group)
    carry_out(second.pk)
    second.refresh_from_db()
    before = first.targets.get().release_after
    # As it is when the worker dies right after the switch.
    Deployment.objects.filter(pk=second.pk).update(status="deploying", finished_at=None)
    second.targets.update(status="switching", run_key=secrets.token_hex(16))
    grow_old(second)
    sweep()
    settle_lost(second.pk)
    target = second.targets.get()
    assert (status(second), target.status, target.release_after) == ("failed", "failed", before)
    assert (tmp_path / "srv" / "current").readlink().name == before
    assert "between switch and restart" in target.error


def test_a_server_that_had_failed_before_the_worker_was_lost_is_not_forgotten(sshd, queue_server, tmp_path):
    path = tmp_path / "restart.sh"
    path.write_text("echo fine")
    group = make_group(make_server(sshd, name="web-1"), make_server(sshd, name="web-2"))
    deployment = make_deployment(make_project(deploy_script_path=str(path)), group, deployment_type="restart_only")
    assert deployment.claim_for_worker()
    for target, end in zip(deployment.targets.all(), (Target.Status.FAILED, Target.Status.RESTARTING), strict=True):
        target.deployment = deployment
        assert target.move(end, error="its script ended with status 3")
    with connect(Server.objects.get(name="web-2")) as shell:
        run = SupervisedRun(shell, deployment.targets.get(server_name="web-2").run_key)
        run.run(Script("echo fine"), lambda _stream, _data: None, timeout=PATIENCE, stop=threading.Event())
    grow_old(deployment)
    sweep()
    settle_lost(deployment.pk)
    deployment.refresh_from_db()
    assert [target.status for target in deployment.targets.all()] == ["failed", "success"]
    assert (deployment.status, "web-1: its script ended with status 3" in deployment.error_message) == ("failed", True)


def test_a_rollback_whose_worker_was_killed_is_finished_and_its_script_runs_once(sshd, worker, git_repo, tmp_path):
    script = f'echo "$DEPLOY_RELEASE" >>{tmp_path}/runs\n'
    cue = Cue(tmp_path)
    git_repo.commit({"restart.sh": f"{script}[ -e {tmp_path}/go ] || {{ {cue}; }}\n"})
    values = {"git_url": git_repo.url, "deploy_path": str(tmp_path / "srv"), "deploy_script_path": "restart.sh"}
    project, group = make_project(auto_rollback=True, **values), make_group(make_server(sshd))
    (tmp_path / "go").touch()
    first = make_deployment(project, group)
    wait_until(lambda: ended(first), "the first release")
    before = first.targets.get().release_after
    (tmp_path / "go").unlink()
    git_repo.commit({"restart.sh": script + "exit 3\n"})
    second = make_deployment(project, group)
    cue.wait()
    worker.kill_horse()
    cue.give()
    wait_until(lambda: ended(second), "the deployment to end")
    target = second.targets.get()
    assert (status(second), target.status, target.release_after) == ("failed", "rolled_back", before)
    assert (tmp_path / "srv" / "current").readlink().name == before
    second.refresh_from_db()
    assert (tmp_path / "runs").read_text().split() == [before, str(second.release), before]


def test_a_server_that_cannot_be_asked_is_unknown_and_the_deployment_stays_interrupted(sshd, queue_server, tmp_path):
    deployment = launched(sshd, tmp_path, "true")
    assert deployment.claim_for_worker()
    deployment.targets.get().move(Target.Status.RESTARTING)
    Server.objects.update(port=1)
    grow_old(deployment)
    sweep()
    settle_lost(deployment.pk)
    assert (status(deployment), deployment.targets.get().status) == ("interrupted", "unknown")
    assert ended(deployment)


def test_a_worker_waits_for_its_deployment_when_it_is_told_to_stop(sshd, worker, tmp_path):
    cue = Cue(tmp_path)
    deployment = launched(sshd, tmp_path, str(cue))
    cue.wait()
    worker.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "warm shut down requested" in worker.log.lower(), "the worker to hear of it")
    cue.give()
    worker.process.wait(PATIENCE)
    assert status(deployment) == "success"


def test_thirty_launches_at_once_give_one_deployment(sshd, queue_server, tmp_path):
    project, group = make_project(deploy_script_path="/x"), make_group(make_server(sshd))

    def attempt(_number: int) -> bool:
        try:
            make_deployment(project, group, deployment_type="restart_only")
        except LaunchRefusedError as refused:
            return refused.blocking is None
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(30) as threads:
        assert sum(threads.map(attempt, range(30))) == 1  # every other one was refused, naming the first
    assert Deployment.objects.count() == 1
