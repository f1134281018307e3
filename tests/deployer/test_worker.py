"""The queue, the worker process and what is left when one of them is gone."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from deployer.launch import LaunchRefusedError
from deployer.models import Deployment, LogLine
from deployer.sweep import LOST_LAUNCH, sweep
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.programs import wait_until

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
    assert deployment.log_lines.order_by("id").last().content.startswith("Done")


def test_a_work_horse_that_is_killed_leaves_a_failed_deployment_with_a_sentence(sshd, worker, tmp_path):
    deployment = launched(sshd, tmp_path, f"touch {tmp_path}/begun; sleep 3")
    wait_until((tmp_path / "begun").exists, "the script to begin")
    os.kill(worker.horses[0], signal.SIGKILL)
    wait_until(lambda: status(deployment) not in Deployment.ACTIVE, "the deployment to end")
    deployment.refresh_from_db()
    assert deployment.status == "failed"
    assert "killed by signal 9" in deployment.error_message
    assert "web-1" in deployment.error_message
    assert deployment.targets.get().status == "unknown"
    assert deployment.log_lines.filter(level="error").exists()


def test_the_next_deployment_runs_after_a_work_horse_was_killed(sshd, worker, tmp_path):
    first = launched(sshd, tmp_path, f"touch {tmp_path}/begun; sleep 3")
    wait_until((tmp_path / "begun").exists, "the script to begin")
    os.kill(worker.horses[0], signal.SIGKILL)
    wait_until(lambda: status(first) not in Deployment.ACTIVE, "the deployment to end")
    (tmp_path / "restart.sh").write_text("echo again")
    second = make_deployment(first.project, *first.server_groups.all(), deployment_type="restart_only")
    wait_until(lambda: status(second) == "success", "the second one to succeed")


def test_a_launch_whose_enqueue_was_lost_is_sent_again(sshd, queue_server, tmp_path, make_worker):
    queue_server.stop()
    deployment = launched(sshd, tmp_path, "echo at last")
    assert status(deployment) == "pending"
    queue_server.start()
    assert sweep()["again"] == []  # it may still be on its way
    Deployment.objects.update(created_at=timezone.now() - LOST_LAUNCH - timedelta(seconds=1))
    assert sweep()["again"] == [deployment.pk]
    assert sweep()["again"] == []  # it is on the queue now
    make_worker()
    wait_until(lambda: status(deployment) == "success", "the deployment to succeed")


def test_a_deployment_without_a_sign_of_life_is_ended_and_one_with_it_is_not(sshd, queue_server, tmp_path):
    deployment = launched(sshd, tmp_path, "true")
    assert deployment.claim_for_worker()
    assert sweep()["ended"] == []
    Deployment.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    assert sweep()["ended"] == [deployment.pk]
    assert status(deployment) == "failed"
    # The worker that was taken for lost wakes up: it can write nothing any more.
    assert not deployment.beat()
    assert not deployment.end(Deployment.Status.SUCCESS)
    assert not deployment.targets.get().move("success")


def test_a_worker_that_is_killed_whole_is_found_by_the_others(sshd, make_worker, tmp_path):
    first = make_worker()
    deployment = launched(sshd, tmp_path, f"touch {tmp_path}/begun; sleep 4")
    wait_until((tmp_path / "begun").exists, "the script to begin")
    horses = first.horses
    first.kill()
    for pid in horses:
        os.kill(pid, signal.SIGKILL)
    Deployment.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    make_worker()
    wait_until(lambda: status(deployment) == "failed", "the deployment to be ended", 30)
    assert deployment.targets.get().status == "unknown"


def test_a_worker_waits_for_its_deployment_when_it_is_told_to_stop(sshd, worker, tmp_path):
    deployment = launched(sshd, tmp_path, f"touch {tmp_path}/begun; sleep 2")
    wait_until((tmp_path / "begun").exists, "the script to begin")
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(30)
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
