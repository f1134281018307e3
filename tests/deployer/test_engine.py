"""Both routines on real SSH servers, from the launch to the last word on every server."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from django.db import OperationalError
from django.db.backends.utils import CursorWrapper

from deployer.engine.routines import carry_out
from deployer.launching.again import launch_rollback
from deployer.launching.rules import LaunchRefusedError
from deployer.log.masking import MASK
from deployer.models import Deployment, LogLine, Target, TriggerHold
from deployer.releases.store import prune
from projects.commands import processes
from projects.commands.matching import Name, Search
from projects.models import HealthCheck, Variable
from projects.steps import Moment
from servers.models import Server
from servers.ssh.shell import connect
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server
from tests.parts.cue import Cue
from tests.parts.programs import command_line, kill_all, processes_running, wait_for_end, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

DAEMON = """\
cd "$DEPLOY_PATH"
[ -f app.pid ] && kill "$(cat app.pid)" 2>/dev/null
nohup {application} >/dev/null 2>&1 &
echo $! > app.pid
echo "started $!"
"""


@pytest.fixture
def place(sshd, tmp_path) -> Iterator[Path]:
    """A folder on the server."""
    yield tmp_path
    kill_all([pid for pid in sshd.processes() if command_line(pid).startswith("sleep 7")])


def script(place: Path, text: str, name: str = "restart.sh") -> str:
    path = place / name
    path.write_text(text)
    return str(path)


def ended(project, *groups, **values) -> Deployment:
    """Launch and carry out, in this process."""
    deployment = make_deployment(project, *groups, **values)
    assert carry_out(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


def restarted(project, *groups) -> Deployment:
    return ended(project, *groups, deployment_type="restart_only")


def log_of(deployment, **where) -> list[str]:
    return list(LogLine.objects.filter(deployment=deployment, **where).values_list("content", flat=True))


def wait_until_asked(deployment, wish: str) -> None:
    """Return when whoever carries it out has heard of the wish."""
    wait_until(lambda: any(f"{wish} requested" in line for line in log_of(deployment)), f"{wish} to be heard of")


def nap(number: int) -> str:
    """The command line of an application: no other test has it, whoever else runs the suite at the same time."""
    return f"sleep 7{number}{os.getpid()}"


def test_restart_only_runs_the_script_and_proves_the_replacement(sshd, place):
    project = make_project(
        deploy_path=str(place),
        deploy_script_path=script(place, DAEMON.format(application=nap(111))),
        process_name=nap(111),
    )
    group = make_group(make_server(sshd, name="web-1"))
    first, second = restarted(project, group), restarted(project, group)
    assert (first.status, second.status) == ("success", "success"), second.error_message
    target = second.targets.get()
    assert (target.status, target.exit_code) == ("success", 0)
    assert target.proof["verdict"] == "replaced"
    assert target.proof["before"][0]["pid"] != target.proof["after"][0]["pid"]
    assert "was replaced by" in target.proof["sentence"]
    assert any(line.startswith("started ") for line in log_of(second, stream="stdout"))


def test_a_server_that_lets_nobody_in_while_its_script_runs_is_unknown_and_not_failed(make_sshd, place):
    sshd, forever = make_sshd(), nap(123)
    path = script(place, f"touch {place}/begun; {forever}")
    project = make_project(deploy_script_path=path, script_timeout=600)
    deployment = make_deployment(project, make_group(make_server(sshd)), deployment_type="restart_only")
    thread = threading.Thread(target=carry_out, args=[deployment.pk])
    thread.start()
    try:
        wait_until((place / "begun").exists, "the script to begin")
        sshd.change_host_key()
        wait_for_end(thread)
        target = deployment.targets.get()
        assert (target.status, target.exit_code) == ("unknown", None)
        assert "shows another host key" in target.error
        assert processes_running(forever)
    finally:
        kill_all(processes_running(forever))


def test_a_named_process_that_was_not_replaced_is_unchanged_and_a_failure(sshd, place):
    project = make_project(deploy_script_path=script(place, f"nohup {nap(222)} & echo"), process_name=nap(222))
    group = make_group(make_server(sshd))
    assert restarted(project, group).status == "success"
    script(place, "echo I do nothing")
    deployment = restarted(project, group)
    target = deployment.targets.get()
    assert (deployment.status, target.status, target.exit_code) == ("failed", "unchanged", 0)
    assert "still runs" in target.error


def test_a_named_process_that_dies_at_once_is_a_failure(sshd, place):
    moment = f"sleep 0.7333{os.getpid()}"
    project = make_project(deploy_script_path=script(place, f"nohup {moment} & echo"), process_name=moment)
    target = restarted(project, make_group(make_server(sshd))).targets.get()
    assert (target.status, target.proof["verdict"]) == ("failed", "dead")


@pytest.mark.parametrize(("life", "rest"), [("0.3", ""), ("1.2", "sleep 0.5")])
def test_a_named_process_that_is_started_again_and_again_is_crash_looping(sshd, place, life, rest):
    program = f"sleep {life}{os.getpid()}"
    loop = script(place, f"until [ -e {place}/enough ]; do {program}; done", "loop.sh")
    path = script(place, f"nohup bash {loop} >/dev/null 2>&1 &\n{rest}")
    project = make_project(deploy_script_path=path, process_name=program)
    try:
        target = restarted(project, make_group(make_server(sshd))).targets.get()
    finally:
        (place / "enough").touch()
    assert (target.status, target.proof["verdict"]) == ("failed", "crash-looping")


def test_a_launcher_that_gives_way_to_what_it_launched_is_no_crash_loop(sshd, place):
    program = nap(777)
    launcher = script(place, f"sleep 0.6; nohup {program} >/dev/null 2>&1 &", "launcher.sh")
    path = script(place, f"nohup bash -c '. {launcher}' '{program}' >/dev/null 2>&1 &")
    target = restarted(
        make_project(deploy_script_path=path, process_name=program), make_group(make_server(sshd))
    ).targets.get()
    assert (target.status, target.proof["verdict"]) == ("success", "replaced")
    assert [process["command"] for process in target.proof["after"]] == [program]


def test_a_process_that_is_not_found_under_a_derived_name_is_a_warning_only(sshd, place):
    project = make_project(name="Some - Thing", deploy_script_path=script(place, "echo fine"))
    deployment = restarted(project, make_group(make_server(sshd)))
    assert deployment.status == "success"
    assert any("something" in line for line in log_of(deployment, level="warning"))


def test_a_server_that_fails_is_not_told_of_the_derived_name(sshd, place):
    """It fails for the service that was named; what was looked for by the project's own name only advises."""
    project = make_project(name="Some - Thing", deploy_script_path=script(place, "echo fine"))
    project.services.create(kind="process", name="never-started")
    deployment = restarted(project, make_group(make_server(sshd)))
    [target] = deployment.targets.all()
    assert target.status == "failed"
    assert "never-started" in target.error
    assert "something" not in target.error
    assert any("something" in line for line in log_of(deployment, level="warning"))


def test_the_process_check_does_not_find_itself(sshd):
    """Another's look at this machine may be there at one moment, never at each of several; its own would be."""
    seen = []
    with connect(make_server(sshd)) as shell:
        for _look in range(5):
            survey = processes.read_survey(shell.capture(processes.survey()).stdout)
            assert survey.processes
            search = Search(survey, "")
            found = [search.by_name(Name(words)) for words in ("grep -aH", "grep", "/proc/1/cmdline", "ls")]
            seen.append({it.command for one in found for it in one.processes if "/proc/" in it.command})
    assert set() in seen


def test_one_failing_server_stops_no_other_and_every_failed_one_is_named(sshd, make_sshd, place):
    other = make_sshd()
    path = script(place, f'[ "$HOME" = {other.home} ] && {{ echo broken >&2; exit 9; }}\necho fine')
    good, bad = make_server(sshd, name="good"), make_server(other, name="bad")
    dead = make_server(sshd, name="dead", port=1)
    project = make_project(deploy_script_path=path)
    deployment = restarted(project, make_group(bad, dead, good))
    ends = dict(deployment.targets.values_list("server_name", "status"))
    assert ends == {"good": "success", "bad": "failed", "dead": "failed"}
    assert deployment.status == "failed"
    assert "bad: " in deployment.error_message
    assert "status 9" in deployment.error_message
    assert "dead: " in deployment.error_message
    assert "broken" in log_of(deployment, stream="stderr")


def test_a_server_in_two_groups_is_restarted_once_and_an_inactive_one_is_skipped(sshd, place):
    server, idle = make_server(sshd), make_server(sshd, name="idle", is_active=False)
    project = make_project(deploy_script_path=script(place, f"echo x >> {place}/count"))
    deployment = restarted(project, make_group(server, idle), make_group(server))
    assert deployment.status == "success"
    assert (place / "count").read_text() == "x\n"
    assert deployment.targets.get(server=idle).status == "skipped"
    assert any("idle" in line for line in log_of(deployment, level="warning"))


def test_a_missing_script_is_named_and_nothing_is_run(sshd, place):
    deployment = restarted(make_project(deploy_script_path=f"{place}/nowhere.sh"), make_group(make_server(sshd)))
    assert deployment.status == "failed"
    assert f"{place}/nowhere.sh does not exist" in deployment.error_message


def test_a_script_over_its_time_fails_and_leaves_no_process(sshd, place):
    path = script(place, f"trap '' TERM; {nap(444)} & while :; do {nap(444)}; done")
    deployment = restarted(make_project(deploy_script_path=path, script_timeout=1), make_group(make_server(sshd)))
    assert "longer than its limit of 1 seconds" in deployment.error_message
    assert not processes_running(nap(444))


def test_the_script_gets_its_variables_and_no_secret_reaches_the_log(sshd, place):
    path = script(place, 'echo "[$PLAIN] [$TOKEN] $DEPLOY_ID $DEPLOY_TYPE"; echo "$TOKEN" | base64; pwd')
    project = make_project(deploy_script_path=path)
    Variable.objects.create(project=project, name="PLAIN", value='it\'s $(id) `x` "é"', scope="deploy")
    Variable.objects.create(project=project, name="TOKEN", value="s3cret-value/9", is_secret=True, scope="both")
    Variable.objects.create(project=project, name="ONLY_BUILD", value="x", scope="build")
    deployment = restarted(project, make_group(make_server(sshd)))
    lines = log_of(deployment, stream="stdout")
    assert lines[0] == f'[it\'s $(id) `x` "é"] [••••••] {deployment.pk} restart_only'
    assert lines[1].startswith("••••••")
    assert lines[2] == str(place)
    assert not any("s3cret" in line for line in log_of(deployment))


def test_editing_the_project_after_the_launch_changes_nothing(sshd, place):
    project = make_project(deploy_script_path=script(place, "echo old"))
    deployment = make_deployment(project, make_group(make_server(sshd)), deployment_type="restart_only")
    project.deploy_script_path = script(place, "echo new", "other.sh")
    project.save()
    carry_out(deployment.pk)
    assert log_of(deployment, stream="stdout") == ["old"]


def test_a_hundred_thousand_lines_arrive_whole_and_in_order(sshd, place):
    project = make_project(deploy_script_path=script(place, "seq 100000"))
    deployment = restarted(project, make_group(make_server(sshd)))
    assert log_of(deployment, stream="stdout") == [str(n) for n in range(1, 100_001)]


def test_the_output_is_stored_before_it_is_written_that_the_script_has_ended(sshd, place, monkeypatch):
    stored = []
    move = Target.move

    def watched(target, status, **values):
        if status == Target.Status.CHECKING:
            stored.append(log_of(target.deployment, stream="stdout"))
        return move(target, status, **values)

    monkeypatch.setattr(Target, "move", watched)
    monkeypatch.setattr("deployer.log.writing.FLUSH_EVERY", 60)
    project = make_project(deploy_script_path=script(place, "seq 300"))
    assert restarted(project, make_group(make_server(sshd))).status == "success"
    assert stored == [[str(number) for number in range(1, 301)]]


def test_binary_and_coloured_output_becomes_clean_lines(sshd, place):
    text = r"printf '\000\377\001 \033[31mred\033[0m \033]0;title\007\033[2Jx\n';"
    text += r"printf '10%%\r50%%\r100%%\n'; printf 'end'"
    deployment = restarted(make_project(deploy_script_path=script(place, text)), make_group(make_server(sshd)))
    assert log_of(deployment, stream="stdout") == ["\ufffd \x1b[31mred\x1b[0m x", "100%", "end"]


def test_a_line_that_has_not_ended_is_shown_as_it_stands_and_taken_away_with_its_end(sshd, place, admin_client):
    cue = f"until [ -e {place}/go-$1 ]; do sleep 0.05; done"
    text = f"wait() {{ {cue}; }}; printf ' 10%%\\r'; wait 1; printf '\\033[32m 50%%\\033[0m\\r'; wait 2; echo done"
    project = make_project(deploy_script_path=script(place, text))
    it = make_deployment(project, make_group(make_server(sshd)), deployment_type="restart_only")
    worker = threading.Thread(target=carry_out, args=[it.pk])
    worker.start()
    try:
        for number, shown in ((1, "10%"), (2, "50%")):
            wait_until(it.targets.filter(progress=shown).exists, f"{shown} to be told")
            page = admin_client.get(it.get_absolute_url()).content.decode()
            assert f'<p class="quiet mono unfinished">{shown}</p>' in page
            (place / f"go-{number}").touch()
    finally:
        wait_for_end(worker)
    it.refresh_from_db()
    assert (it.status, it.targets.get().progress) == ("success", "")
    assert log_of(it, stream="stdout") == ["done"]


def test_a_build_shows_its_line_that_has_not_ended_and_no_secret_in_it(sshd, git_repo, place, admin_client):
    build = f"printf 'fetching sup3r-secret 10%%'; {nap(557)}"
    project = full_project(git_repo, place, build_script=build)
    Variable.objects.create(project=project, name="KEY", value="sup3r-secret", is_secret=True, scope="build")
    it = make_deployment(project, make_group(make_server(sshd)))
    worker = threading.Thread(target=carry_out, args=[it.pk])
    worker.start()
    try:
        told = f"fetching {MASK} 10%"
        wait_until(lambda: Deployment.objects.get(pk=it.pk).progress == told, "the line to be told")
        assert f">{told}</p>" in admin_client.get(it.get_absolute_url()).content.decode()
    finally:
        it.request_cancel()
        wait_for_end(worker)
    it.refresh_from_db()
    assert (it.status, it.progress) == ("cancelled", "")


def test_a_second_launch_is_refused_with_the_first_one_named(sshd, place):
    project, group = make_project(deploy_script_path=script(place, "true")), make_group(make_server(sshd))
    first = make_deployment(project, group, deployment_type="restart_only")
    with pytest.raises(LaunchRefusedError) as refused:
        make_deployment(project, group, deployment_type="restart_only")
    assert refused.value.blocking == first


def test_a_deployment_is_carried_out_once(sshd, place):
    project = make_project(deploy_script_path=script(place, f"echo x >> {place}/count"))
    deployment = make_deployment(project, make_group(make_server(sshd)), deployment_type="restart_only")
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(carry_out(deployment.pk))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, False, True]
    assert (place / "count").read_text() == "x\n"


def test_a_cancel_lets_a_running_restart_finish_and_starts_no_other_batch(sshd, place):
    first, second = make_server(sshd, name="a"), make_server(sshd, name="b")
    cue = Cue(place)
    project = make_project(deploy_script_path=script(place, f"echo begun; {cue}; echo finished"), batches="1")
    deployment = make_deployment(project, make_group(first, second), deployment_type="restart_only")
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    cue.wait()
    assert Deployment.objects.get(pk=deployment.pk).request_cancel()
    wait_until_asked(deployment, "Cancel")
    cue.give()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert deployment.status == "cancelled"
    assert dict(deployment.targets.values_list("server_name", "status")) == {"a": "success", "b": "cancelled"}
    assert "finished" in log_of(deployment)


def test_a_deployment_that_waits_is_cancelled_at_once(sshd, place):
    project = make_project(deploy_script_path=script(place, "true"))
    deployment = make_deployment(project, make_group(make_server(sshd)), deployment_type="restart_only")
    assert deployment.request_cancel()
    assert (deployment.status, deployment.targets.get().status) == ("cancelled", "cancelled")
    assert not carry_out(deployment.pk)


def test_over_the_failure_budget_the_next_batch_is_skipped_and_named(sshd, place):
    servers = [make_server(sshd, name=name, port=1 if name == "a" else sshd.port) for name in "abc"]
    project = make_project(deploy_script_path=script(place, "true"), batches="1")
    deployment = restarted(project, make_group(*servers))
    assert [t.status for t in deployment.targets.all()] == ["failed", "skipped", "skipped"]
    assert "Skipped: b, c" in deployment.error_message


def test_health_checks_decide_where_they_are_required(sshd, place):
    project = make_project(deploy_script_path=script(place, "true"))
    HealthCheck.objects.create(project=project, kind="tcp", target=str(sshd.port), retries=0, timeout=60)
    HealthCheck.objects.create(project=project, kind="http", target="http://127.0.0.1:1/", retries=0, required=False)
    group = make_group(make_server(sshd))
    deployment = restarted(project, group)
    assert deployment.status == "success"
    assert any("http://127.0.0.1:1/" in line for line in log_of(deployment, level="warning"))
    HealthCheck.objects.create(
        project=project, kind="command", target="echo no; exit 3", retries=1, interval=0, timeout=60
    )
    deployment = restarted(project, group)
    assert deployment.status == "failed"
    assert "status 3: no" in deployment.error_message


# --- full deployments --------------------------------------------------------------------------------


def full_project(git_repo, place, **values):
    git_repo.commit({"restart.sh": 'cat "$DEPLOY_PATH/current/VERSION"; echo "$DEPLOY_RELEASE"', "VERSION": "one"})
    return make_project(
        **{
            "git_url": git_repo.url,
            "deploy_path": str(place / "srv"),
            "deploy_script_path": "restart.sh",
        }
        | values
    )


def version_of(deployment: Deployment) -> str:
    assert deployment.release is not None
    return deployment.release.version


def test_a_full_deployment_builds_once_and_switches_every_server(sshd, make_sshd, git_repo, place):
    project = full_project(git_repo, place, build_script="echo building; echo built > BUILT", output_dir="")
    deployment = ended(project, make_group(make_server(sshd)))
    assert deployment.status == "success", (deployment.error_message, log_of(deployment))
    version = version_of(deployment)
    current = place / "srv" / "current"
    assert current.readlink() == Path("releases") / version
    assert (current / "BUILT").read_text() == "built\n"
    assert deployment.commit_hash == git_repo.head
    assert log_of(deployment, stream="stdout").count("building") == 1
    target = deployment.targets.get()
    assert (target.release_before, target.release_after) == ("", version)
    git_repo.commit({"VERSION": "two"})
    second = ended(project, make_group(make_server(sshd)))
    assert (current / "VERSION").read_text().strip() == "two"
    assert second.targets.get().release_before == version


def test_a_failing_build_touches_no_server(sshd, git_repo, place):
    project = full_project(git_repo, place, build_script="echo oops >&2\nfalse\necho never")
    deployment = ended(project, make_group(make_server(sshd)))
    assert deployment.status == "failed"
    assert "Build script failed" in deployment.error_message
    assert "oops" in deployment.error_message
    assert deployment.targets.get().status == "skipped"
    assert not (place / "srv").exists()


def test_nothing_is_cloned_without_the_login_that_was_launched_with(sshd, git_repo, place):
    project = full_project(git_repo, place, git_credential=make_credential())
    deployment = make_deployment(project, make_group(make_server(sshd)))
    login, project.git_credential = project.git_credential, None
    project.save()
    login.delete()
    carry_out(deployment.pk)
    deployment.refresh_from_db()
    assert deployment.status == "failed"
    assert "the git credential of the project was deleted after the launch" in deployment.error_message


@pytest.mark.parametrize("branch", ["main;id", "$(touch pwned)", "`id`", "no-such-branch"])
def test_a_hostile_branch_is_a_branch_that_is_not_found(sshd, git_repo, place, branch):
    project = full_project(git_repo, place)
    try:
        deployment = ended(project, make_group(make_server(sshd)), branch=branch)
    except LaunchRefusedError:
        return  # names with blanks are refused at the launch
    assert deployment.status == "failed"
    assert "was not found in the repository" in deployment.error_message


def test_branches_tags_and_commits_are_resolved(sshd, git_repo, place):
    project = full_project(git_repo, place)
    first = git_repo.head
    git_repo.tag("v1")
    git_repo.commit({"VERSION": "two"})
    group = make_group(make_server(sshd))
    assert ended(project, group, branch="v1").commit_hash == first
    assert ended(project, group, branch=first).commit_hash == first
    assert ended(project, group, branch=first[:10]).commit_hash == first
    assert ended(project, group, branch="main").commit_hash == git_repo.head


def test_a_current_that_is_a_real_folder_is_refused_with_what_to_do(sshd, git_repo, place):
    (place / "srv" / "current").mkdir(parents=True)
    (place / "srv" / "current" / "precious").write_text("x")
    deployment = ended(full_project(git_repo, place), make_group(make_server(sshd)))
    assert deployment.status == "failed"
    assert "real folder" in deployment.error_message
    assert (place / "srv" / "current" / "precious").exists()


def test_links_that_lead_out_of_the_release_are_refused(sshd, git_repo, place):
    project = full_project(git_repo, place, build_script="ln -s /etc/passwd leak")
    deployment = ended(project, make_group(make_server(sshd)))
    assert "leak" in deployment.error_message
    assert not (place / "srv").exists()


def test_a_cancel_ends_a_build_with_its_whole_process_tree(sshd, git_repo, place):
    build = f"setsid {nap(555)} &\n(env -i setsid {nap(555)} &)\ntrap '' TERM\nwhile :; do {nap(555)}; done"
    project = full_project(git_repo, place, build_script=build)
    deployment = make_deployment(project, make_group(make_server(sshd)))
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    wait_until(lambda: len(processes_running(nap(555))) == 3, "the build to run")
    deployment.request_cancel()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert (deployment.status, deployment.targets.get().status) == ("cancelled", "cancelled")
    assert processes_running(nap(555)) == []


def test_a_budget_that_is_spent_rolls_the_touched_servers_back(sshd, git_repo, place):
    project = full_project(git_repo, place, auto_rollback=True)
    group = make_group(make_server(sshd))
    good = ended(project, group)
    git_repo.commit({"restart.sh": '[ -f "$DEPLOY_PATH/current/BAD" ] && exit 1; echo fine', "BAD": "x"})
    deployment = ended(project, group)
    assert deployment.status == "failed"
    target = deployment.targets.get()
    assert (target.status, target.release_after) == ("rolled_back", version_of(good))
    assert (place / "srv" / "current").readlink().name == version_of(good)
    assert TriggerHold.objects.open().get().deployment == deployment


def test_old_releases_go_and_the_live_and_the_previous_one_stay(sshd, git_repo, place):
    project, group = full_project(git_repo, place, keep_releases=1), make_group(make_server(sshd))
    versions = [version_of(ended(project, group, rebuild=True)) for _ in range(3)]
    assert sorted(p.name for p in (place / "srv" / "releases").iterdir()) == sorted(versions[1:])
    assert version_of(ended(project, group)) == versions[2]
    assert sorted(p.name for p in (place / "srv" / "releases").iterdir()) == sorted(versions[1:]), "the same one again"


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("kind", "script", "status"),
    [("full", "", "success"), ("restart_only", "", "success"), ("full", "exit 3", "failed")],
    ids=["full", "restart_only", "taken back"],
)
def test_a_cut_at_each_question_to_the_database_fails_no_deployment(
    sshd, git_repo, place, monkeypatch, kind, script, status
):
    """Each line of the engine that asks it is cut off the first time, once the deployment is claimed."""
    project = full_project(git_repo, place, keep_releases=1, auto_rollback=True)
    group = make_group(make_server(sshd))
    project.config_files.create(path=str(place / "app.conf"), content="port=80\n")
    for moment in Moment:
        project.steps.create(name=moment, moment=moment, script="true", undone_by="true")
    for _ in range(2):
        assert ended(project, group, rebuild=True).status == "success"
    project.config_files.update(content="port=81\n")
    git_repo.commit({"restart.sh": script})
    cut, real = set(), CursorWrapper.execute

    def execute(self, *args, **values):
        frame: FrameType | None = sys._getframe(1)
        while frame and "/deployer/engine/" not in frame.f_code.co_filename:
            frame = frame.f_back
        line = frame and (Path(frame.f_code.co_filename).name, frame.f_lineno)
        if line and line[0] != "routines.py" and line not in cut:
            cut.add(line)
            raise OperationalError("the connection was cut")
        return real(self, *args, **values)

    deployment = make_deployment(project, group, deployment_type=kind, rebuild=kind == "full")
    with monkeypatch.context() as patch:
        patch.setattr(CursorWrapper, "execute", execute)
        assert carry_out(deployment.pk)
    deployment.refresh_from_db()
    asking = {"run.py", "server_run.py", "verification.py", "steps.py", "config_files.py", "journal.py"}
    assert asking | ({"way_back.py"} if script else set()) <= {name for name, _line in cut}
    assert (deployment.status, "itself" in deployment.error_message) == (status, False), deployment.error_message


def test_after_ten_failed_deployments_the_last_good_release_is_there_and_rolling_back_goes_to_it(sshd, git_repo, place):
    project, group = full_project(git_repo, place, keep_releases=2), make_group(make_server(sshd))
    git_repo.commit({"restart.sh": '! [ -e "$DEPLOY_PATH/current/BAD" ]'})
    good = [version_of(ended(project, group, rebuild=True)) for _ in range(2)]
    git_repo.commit({"BAD": "x"})
    for _ in range(10):
        latest = ended(project, group, rebuild=True)
        assert latest.status == "failed", log_of(latest)
    there = sorted(path.name for path in (place / "srv" / "releases").iterdir())
    assert set(good) < set(there)
    assert len(there) == 4, "and of the failed ones only the live one and the one before it"
    assert prune() == []
    back = launch_rollback(latest, created_by=None, trigger="cli")
    assert carry_out(back.pk)
    back.refresh_from_db()
    assert (back.status, version_of(back), back.rollback_from) == ("success", good[-1], latest)
    assert (place / "srv" / "current").readlink().name == good[-1]
    again = launch_rollback(back, created_by=None, trigger="cli")
    assert again.release is not None
    assert again.release.version == good[0], "what had failed is passed over again"


def test_a_wrong_key_fails_that_server_and_is_said(sshd, place):
    credential = make_credential(username=sshd.username, name="stale")
    server = make_server(sshd, credential=credential, name="locked")
    deployment = restarted(make_project(deploy_script_path=script(place, "true")), make_group(server))
    assert "locked: " in deployment.error_message
    assert "stale" in deployment.error_message
    assert Server.objects.get(pk=server.pk).connection_status == "offline"


def test_statuses_end_once(sshd, place):
    project, group = make_project(deploy_script_path=script(place, "true")), make_group(make_server(sshd))
    for _ in range(25):
        deployment = make_deployment(project, group, deployment_type="restart_only")
        assert deployment.claim_for_worker()
        other = Deployment.objects.get(pk=deployment.pk)
        wins: list[bool] = []
        racers = [
            threading.Thread(target=lambda d=d, s=s, wins=wins: wins.append(d.end(s)))
            for d, s in ((deployment, Deployment.Status.SUCCESS), (other, Deployment.Status.CANCELLED))
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert sorted(wins) == [False, True]


def test_a_forced_cancel_ends_the_script_on_the_server_too(sshd, place):
    path = script(place, f"trap '' TERM; setsid {nap(666)} & while :; do {nap(666)}; done")
    project = make_project(deploy_script_path=path)
    deployment = make_deployment(project, make_group(make_server(sshd, name="a")), deployment_type="restart_only")
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    wait_until(lambda: len(processes_running(nap(666))) == 2, "the script to run")
    Deployment.objects.get(pk=deployment.pk).request_cancel(force=True)
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert (deployment.status, deployment.targets.get().status) == ("cancelled", "cancelled")
    assert not processes_running(nap(666))


def test_a_cancel_during_the_login_begins_no_restart(make_sshd, place):
    sshd, cue = make_sshd(), Cue(place)
    (sshd.home / ".bashrc").write_text(f"{cue}\n")
    project = make_project(deploy_script_path=script(place, f"touch {place}/ran"))
    deployment = make_deployment(project, make_group(make_server(sshd)), deployment_type="restart_only")
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    cue.wait()
    assert Deployment.objects.get(pk=deployment.pk).status == "restarting"
    assert deployment.request_cancel()
    wait_until_asked(deployment, "Cancel")
    cue.give()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert (deployment.status, deployment.targets.get().status) == ("cancelled", "cancelled")
    assert not (place / "ran").exists()


def test_a_forced_cancel_ends_the_health_checks_too(sshd, place):
    project = make_project(deploy_script_path=script(place, "true"))
    HealthCheck.objects.create(project=project, kind="command", target="false", retries=100, interval=10)
    deployment = make_deployment(project, make_group(make_server(sshd)), deployment_type="restart_only")
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    wait_until(lambda: deployment.targets.get().status == "checking", "the checks")
    assert deployment.request_cancel(force=True)
    wait_for_end(worker)  # the checks alone would take a thousand seconds
    assert (deployment.targets.get().status, deployment.targets.get().exit_code) == ("cancelled", 0)


def test_the_command_that_launches_is_not_taken_for_the_application(sshd, place):
    launcher = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(10_000)", "manage.py", "deploy", "my-shop"]
    )
    try:
        project = make_project(name="my-shop", deploy_script_path=script(place, "true"))
        target = restarted(project, make_group(make_server(sshd))).targets.get()
    finally:
        launcher.kill()
        launcher.wait()
    assert target.proof["verdict"] == "unknown"
