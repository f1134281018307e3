"""Batches, pauses, preflight, evidence, retry and rollback, on real SSH servers."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError

from deployer.engine.routines import carry_out
from deployer.launching.again import launch_rollback, retry_failed
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, LogLine
from deployer.probing.look import Level
from projects.models import HealthCheck
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.cue import Cue
from tests.parts.programs import kill_all, processes_running, wait_for_end, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: The command line of an application that no other test has.
NAP = f"sleep 9{os.getpid()}"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "restart.sh").write_text(f"echo x >> {tmp_path}/count\n")
    return tmp_path


def ended(deployment: Deployment) -> Deployment:
    assert carry_out(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


def restarted(project, *groups) -> Deployment:
    return ended(make_deployment(project, *groups, deployment_type="restart_only"))


def ends(deployment: Deployment) -> dict[str, str]:
    return dict(deployment.targets.values_list("server_name", "status"))


def log_of(deployment: Deployment, **where) -> str:
    return "\n".join(deployment.log_lines.filter(**where).values_list("content", flat=True))


def test_after_the_first_batch_it_waits_until_somebody_continues(sshd, place):
    group = make_group(*(make_server(sshd, name=name) for name in "abc"))
    project = make_project(
        deploy_script_path=f"{place}/restart.sh", batches="1, 100%", pause_after_first=True, deploy_path=""
    )
    deployment = make_deployment(project, group, deployment_type="restart_only")
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    wait_until(lambda: Deployment.objects.exclude(paused_at=None).exists(), "the pause")
    assert ends(deployment) == {"a": "success", "b": "pending", "c": "pending"}
    assert deployment.continue_rollout()
    assert not deployment.continue_rollout()
    wait_for_end(worker)
    assert set(ends(deployment).values()) == {"success"}, log_of(deployment)


def test_a_pause_can_be_cancelled(sshd, place):
    group = make_group(*(make_server(sshd, name=name) for name in "ab"))
    project = make_project(deploy_script_path=f"{place}/restart.sh", batches="1", pause_after_first=True)
    deployment = make_deployment(project, group, deployment_type="restart_only")
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    wait_until(lambda: Deployment.objects.exclude(paused_at=None).exists(), "the pause")
    Deployment.objects.get(pk=deployment.pk).request_cancel()
    wait_for_end(worker)
    assert ends(deployment) == {"a": "success", "b": "cancelled"}


@pytest.mark.parametrize(("allowed", "last"), [(False, "skipped"), (True, "success")])
def test_the_last_healthy_server_of_a_group_is_left_alone_unless_told_otherwise(sshd, place, allowed, last):
    group = make_group(make_server(sshd, name="a", port=1), make_server(sshd, name="b"))
    project = make_project(
        deploy_script_path=f"{place}/restart.sh", batches="1", max_failures=5, may_stop_last_healthy=allowed
    )
    assert ends(restarted(project, group)) == {"a": "failed", "b": last}


def test_a_script_that_only_reloads_need_not_replace_its_process(sshd, place):
    (place / "restart.sh").write_text(f"[ -f on ] || {{ setsid {NAP} & echo $! > on; }}; echo reloaded")
    group = make_group(make_server(sshd))
    project = make_project(deploy_script_path=f"{place}/restart.sh", process_name=NAP, script_reloads=True)
    try:
        assert restarted(project, group).status == "success"
        deployment = restarted(project, group)
        assert deployment.status == "success"
        assert deployment.targets.get().proof["verdict"] == "unknown"
        assert "whether it has reloaded cannot be seen" in deployment.targets.get().proof["sentence"]
        assert deployment.log_lines.filter(level="warning", content__contains="cannot be seen").exists()
    finally:
        os.kill(int((place / "on").read_text()), 9)


def test_a_failure_keeps_the_end_of_the_applications_log_as_evidence(sshd, place):
    (place / "app.log").write_text("".join(f"line {n}\n" for n in range(100)) + "OutOfMemory: heap\n")
    project = make_project(deploy_script_path=f"{place}/restart.sh", log_path=f"{place}/app.log")
    HealthCheck.objects.create(project=project, kind="tcp", target="1", retries=0)
    deployment = restarted(project, make_group(make_server(sshd)))
    target = deployment.targets.get()
    assert "OutOfMemory: heap" in target.evidence
    assert "port 1" in target.evidence
    assert "line 10\n" not in target.evidence
    assert "OutOfMemory" in log_of(deployment, level="warning")


def test_a_script_that_fails_keeps_the_applications_log_as_evidence_too(sshd, place):
    (place / "app.log").write_text("no space left on device\n")
    (place / "restart.sh").write_text("exit 3")
    project = make_project(deploy_script_path=f"{place}/restart.sh", log_path=f"{place}/app.log")
    target = restarted(project, make_group(make_server(sshd))).targets.get()
    assert (target.status, target.exit_code) == ("failed", 3)
    assert "no space left on device" in target.evidence


def test_preflight_says_what_is_wrong_on_each_server_and_changes_nothing(sshd, place):
    both = make_server(sshd, name="twice")
    groups = [
        make_group(
            both, make_server(sshd, name="idle", is_active=False), make_server(name="gone", host="127.0.0.1", port=1)
        ),
        make_group(both),
    ]
    (place / "srv" / "current").mkdir(parents=True)
    before = sorted(place.rglob("*"))
    project = make_project(deploy_path=str(place / "srv"), deploy_script_path=f"{place}/nowhere.sh")
    found = preflight_of(LaunchRequest(project, groups))
    said = {(finding.level, finding.server): str(finding) for finding in found}
    errors = [str(finding) for finding in found if finding.level == "error" and finding.server == "twice"]
    assert any("nowhere.sh does not exist" in text for text in errors)
    assert any("real folder" in text for text in errors)
    assert "refused" in said[Level.ERROR, "gone"]
    assert "not active" in said[Level.WARNING, "idle"]
    assert any("deployed to only once" in str(finding) for finding in found if finding.level == "info")
    assert sorted(place.rglob("*")) == before


def test_nothing_is_built_when_no_server_is_ready(sshd, git_repo, place):
    project = make_project(
        git_url=git_repo.url,
        build_script="echo built",
        deploy_path=str(place / "srv"),
        deploy_script_path=f"{place}/nowhere.sh",
    )
    deployment = ended(make_deployment(project, make_group(make_server(sshd))))
    assert deployment.status == "failed"
    assert "nowhere.sh does not exist" in deployment.error_message
    assert "built" not in log_of(deployment, stream="stdout")


def shop(git_repo, place, **values):
    git_repo.commit({"restart.sh": 'cat "$DEPLOY_PATH/current/VERSION"', "VERSION": "one\n"})
    values = {"build_script": "echo built", "deploy_script_path": "restart.sh"} | values
    return make_project(git_url=git_repo.url, deploy_path=str(place / "srv"), **values)


def builds() -> int:
    """How often the shop was built."""
    return LogLine.objects.filter(stream="stdout", content="built").count()


def test_a_retry_names_the_servers_that_are_in_no_group_any_more(sshd, place):
    project = make_project(deploy_script_path=str(place / "no-such-script"))
    group = make_group(make_server(sshd, name="web-1"))
    failed = ended(make_deployment(project, group, deployment_type="restart_only"))
    group.delete()
    with pytest.raises(LaunchRefusedError, match="web-1: no longer in a server group"):
        retry_failed(failed, created_by=None, trigger="cli")


def test_retry_takes_the_failed_servers_alone_and_builds_nothing_anew(sshd, make_sshd, git_repo, place):
    other = make_sshd()
    project = shop(git_repo, place)
    good, bad = make_server(sshd, name="good"), make_server(other, name="bad")
    other.stop()
    first = ended(make_deployment(project, make_group(good, bad)))
    assert ends(first) == {"good": "success", "bad": "failed"}
    other.start()
    second = ended(retry_failed(first, created_by=None, trigger="cli"))
    assert ends(second) == {"bad": "success"}
    assert (second.release, second.retry_of, second.deployment_type) == (first.release, first, "full")
    assert builds() == 1
    with pytest.raises(LaunchRefusedError, match="nothing to retry"):
        retry_failed(second, created_by=None, trigger="cli")
    with pytest.raises(LaunchRefusedError, match="newer deployment") as refused:
        retry_failed(first, created_by=None, trigger="cli")
    assert refused.value.blocking == second


def test_rollback_goes_to_the_release_that_the_server_recorded_and_restarts_it(sshd, git_repo, place):
    project, group = shop(git_repo, place), make_group(make_server(sshd))
    first = ended(make_deployment(project, group))
    git_repo.commit({"VERSION": "two\n"})
    second = ended(make_deployment(project, group))
    third = ended(launch_rollback(second, created_by=None, trigger="cli"))
    assert (third.status, third.release, third.rollback_from) == ("success", first.release, second)
    assert third.commit_hash == first.commit_hash
    assert (place / "srv" / "current" / "VERSION").read_text() == "one\n"
    assert "one" in log_of(third, stream="stdout")
    assert builds() == 2
    with pytest.raises(LaunchRefusedError, match="newer deployment"):
        launch_rollback(second, created_by=None, trigger="cli")


def test_what_cannot_be_rolled_back_is_said(sshd, git_repo, place):
    project, group = shop(git_repo, place), make_group(make_server(sshd))
    first = ended(make_deployment(project, group))
    with pytest.raises(LaunchRefusedError, match="none was recorded"):
        launch_rollback(first, created_by=None, trigger="cli")
    restart = restarted(project, group)
    with pytest.raises(LaunchRefusedError, match="only restarted"):
        launch_rollback(restart, created_by=None, trigger="cli")


def test_old_code_that_still_runs_is_named(sshd, git_repo, place):
    project, group = shop(git_repo, place), make_group(make_server(sshd))
    git_repo.commit({"restart.sh": f'cd "$(readlink -f "$DEPLOY_PATH/current")" && setsid {NAP} & sleep 0.2'})
    project.process_name = NAP
    project.save()
    try:
        first = ended(make_deployment(project, group))
        git_repo.commit({"restart.sh": "echo nothing"})
        second = ended(make_deployment(project, group))
        assert ends(second) == {second.targets.get().server_name: "unchanged"}
        assert f"runs old code: it was started from release {first.targets.get().release_after}" in log_of(
            second, level="warning"
        )
    finally:
        kill_all(processes_running(NAP))


def test_two_projects_in_one_folder_of_a_server_do_not_get_into_each_others_way(sshd, place):
    server = make_server(sshd)
    values = {"deploy_path": str(place), "deploy_script_path": f"{place}/restart.sh"}
    one, two = make_project(name="one", **values), make_project(name="two", **values)
    cue = Cue(place)
    (place / "restart.sh").write_text(f"echo x >> {place}/count; {cue}")
    first = make_deployment(one, make_group(server), deployment_type="restart_only")
    worker = threading.Thread(target=carry_out, args=[first.pk])
    worker.start()
    cue.wait()
    second = restarted(two, make_group(server))
    assert second.status == "failed"
    assert f"is in use by deployment #{first.pk} one" in second.error_message
    cue.give()
    wait_for_end(worker)
    assert restarted(two, make_group(server)).status == "success"
    assert (place / "count").read_text() == "x\nx\n"


def test_releases_are_judged_by_how_they_went(sshd, git_repo, place):
    project, group = shop(git_repo, place, auto_rollback=True), make_group(make_server(sshd))
    good = ended(make_deployment(project, group))
    git_repo.commit({"restart.sh": "exit 1"})
    bad = ended(make_deployment(project, group))
    assert [good.release and good.release.state, bad.release and bad.release.state] == ["good", "bad"]


def test_an_http_check_asks_for_the_site_it_is_told_to(sshd, place):
    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Host"] == "shop.example.com" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        project, group = make_project(deploy_script_path=f"{place}/restart.sh"), make_group(make_server(sshd))
        check = HealthCheck.objects.create(
            project=project, kind="http", target=f"http://127.0.0.1:{site.server_port}/up", retries=0, timeout=60
        )
        assert "it answered 404" in restarted(project, group).error_message
        check.host_header = "shop.example.com"
        check.save()
        assert restarted(project, group).status == "success"
        site.shutdown()


def test_a_command_check_does_not_find_its_own_shell(sshd, place):
    project = make_project(deploy_script_path=f"{place}/restart.sh")
    HealthCheck.objects.create(project=project, kind="command", target="pgrep -f no-such-thing-9333", retries=0)
    assert restarted(project, make_group(make_server(sshd))).status == "failed"


@pytest.mark.parametrize("text", ["ps aux | grep shop", "ps -ef|grep -q shop && true"])
def test_a_check_that_finds_itself_is_refused_when_it_is_saved(text):
    with pytest.raises(ValidationError, match="finds its own grep"):
        HealthCheck(kind="command", target=text).clean()
    HealthCheck(kind="command", target=text.replace("shop", "[s]hop")).clean()


@pytest.mark.parametrize("path", ["restart.sh", "{place}/restart.sh"])
def test_a_script_with_the_lines_of_windows_is_warned_of_before_it_runs(sshd, git_repo, tmp_path, path):
    """Wherever it comes from: from the server, where a check beforehand finds it too, or with the release."""
    text = "#!/bin/bash\r\nset -e\r\necho started\r\n"
    git_repo.commit({"restart.sh": text})
    (tmp_path / "restart.sh").write_bytes(text.encode())
    project = make_project(
        git_url=git_repo.url, deploy_path=str(tmp_path / "shop"), deploy_script_path=path.format(place=tmp_path)
    )
    group = make_group(make_server(sshd))
    deployment = make_deployment(project, group)
    carry_out(deployment.pk)
    lines = list(deployment.log_lines.order_by("id").values_list("content", flat=True))
    warned = [number for number, line in enumerate(lines) if "end in CR LF, as on Windows" in line]
    assert len(warned) == 1
    assert warned[0] < next(number for number, line in enumerate(lines) if line.startswith("Running "))
    assert "sed -i 's/\\r$//' FILE" in lines[warned[0]]


def test_what_is_wrong_on_several_servers_is_said_once_with_all_their_names(sshd, make_sshd, place):
    (place / "restart.sh").write_text("exit 3\n")
    group = make_group(make_server(sshd, name="web-1"), make_server(make_sshd(), name="web-2"))
    deployment = restarted(make_project(deploy_script_path=f"{place}/restart.sh", deploy_path=""), group)
    assert deployment.error_message == (f"2 of 2 servers failed: web-1, web-2: {place}/restart.sh ended with status 3.")
