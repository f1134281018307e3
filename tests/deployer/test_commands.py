"""Commands on servers: run once, through lost links and lost workers, ended with their tree, recorded, refused."""

from datetime import timedelta
from shlex import quote
from typing import Any

import pytest
from django.utils import timezone

from deployer.commanding.asked import CommandRefusedError, CommandRequest
from deployer.commanding.launch import cancel_command, run_command
from deployer.commanding.work import carry_out, settle_lost
from deployer.models import CommandParameter, CommandRun, CommandTarget, Hold, Lock, SavedCommand, Target
from deployer.queue.command_sweep import sweep_commands
from deployer.queue.sweep import LOST_JOB
from people.models import Entry
from people.rights import NotAllowedError
from projects.models import VariableSet
from servers.models import Server
from tests.factories import make_deployment, make_group, make_member, make_project, make_server
from tests.parts.cue import Cue
from tests.parts.programs import processes_running, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def asked(*servers: Server, script: str = "echo hello", **values: Any) -> CommandRequest:
    usual: dict[str, Any] = {"trigger": "cli", "confirmed": True}
    return CommandRequest(servers=servers, script=script, **usual | values)


def saved_with(*parameters: dict[str, Any], **values: Any) -> SavedCommand:
    saved = SavedCommand.objects.create(**{"name": "Say", "script": 'printf "%s|" "$WORD" "$OTHER"'} | values)
    for number, parameter in enumerate(parameters):
        CommandParameter.objects.create(command=saved, position=number, **parameter)
    return saved


def output(run: CommandRun) -> list[str]:
    return [*run.log_lines.exclude(stream="system").values_list("content", flat=True)]


def fresh(run: CommandRun) -> CommandRun:
    return CommandRun.objects.get(pk=run.pk)


def test_a_line_is_run_and_its_output_and_end_are_kept_and_recorded(make_sshd, queue_server):
    sshd = make_sshd()
    server = make_server(sshd, name="web-1")
    make_group(server)
    run = run_command(asked(server, script="echo out; echo err >&2; pwd; exit 0"))
    assert carry_out(run.pk)
    (target,) = run.targets.all()
    assert (fresh(run).status, target.status, target.exit_code) == ("success", "done", 0)
    assert sorted(output(run)) == sorted(["out", "err", str(sshd.home)])
    assert not [*(sshd.home / ".deployer" / "runs").iterdir()]  # nothing of it is left there
    ended, begun = Entry.objects.filter(kind="commandrun")[:2]
    assert begun.act == "launched"
    assert begun.after["script"] == "echo out; echo err >&2; pwd; exit 0"
    assert begun.after["servers"] == ["web-1"]
    assert ended.after == {"status": "success", "servers": {"web-1": "done (0)"}}


def test_a_command_that_fails_says_its_status(sshd, queue_server):
    run = run_command(asked(make_server(sshd), script="exit 7"))
    carry_out(run.pk)
    target = run.targets.get()
    assert (fresh(run).status, target.status, target.exit_code) == ("failed", "failed", 7)
    assert "status 7" in target.error


@pytest.mark.parametrize(
    "value",
    ["a 'quoted' \"one\"", "$(touch /tmp/owned)`id`", "two\nlines; exit 3", "-n", "DEPLOYER_END", "ünï\t*", "\\"],
)
def test_values_of_parameters_arrive_as_they_are_and_are_never_code(sshd, queue_server, value):
    saved = saved_with({"name": "WORD"}, {"name": "OTHER", "default": "d'e\"f"})
    run = run_command(asked(make_server(sshd), script="", saved=saved, values={"WORD": value}))
    carry_out(run.pk)
    assert "\n".join(output(run)) == f"{value}|d'e\"f|"
    assert fresh(run).script == saved.script


def test_a_secret_parameter_is_masked_and_recorded_by_its_fingerprint(sshd, queue_server):
    saved = saved_with({"name": "WORD", "is_secret": True}, {"name": "OTHER"})
    run = run_command(asked(make_server(sshd), script="", saved=saved, values={"WORD": "hunter22", "OTHER": "x"}))
    carry_out(run.pk)
    assert output(run) == ["••••••|x|"]
    parameters = Entry.objects.get(kind="commandrun", act="launched").after["parameters"]
    assert parameters["WORD"].startswith("secret ")
    assert parameters["OTHER"] == "x"
    assert fresh(run).shown_values() == {"WORD": "••••••", "OTHER": "x"}


def test_values_are_judged_by_what_is_declared(sshd, queue_server):
    server = make_server(sshd)
    saved = saved_with({"name": "WORD", "choices": "web\napi", "required": True}, {"name": "OTHER"})
    for values, field in (({}, "WORD"), ({"WORD": "db"}, "WORD"), ({"WORD": "web", "PATH": "/tmp"}, "values")):
        with pytest.raises(CommandRefusedError) as refusal:
            run_command(asked(server, script="", saved=saved, values=values))
        assert refusal.value.field == field
    assert not CommandRun.objects.exists()


def test_it_is_followed_through_a_lost_link_and_run_once(sshd, worker, tmp_path):
    cue = Cue(tmp_path)
    run = run_command(asked(make_server(sshd), script=f"echo one >> {tmp_path}/times; {cue}; echo end"))
    cue.wait()
    sshd.drop_links()
    cue.give()
    wait_until(lambda: fresh(run).status == "success", "the command to end")
    assert (tmp_path / "times").read_text() == "one\n"
    assert output(run)[-1] == "end"


def test_a_lost_worker_s_command_is_followed_to_its_end_and_not_begun_again(sshd, worker, queue_server, tmp_path):
    cue = Cue(tmp_path)
    first, second = make_server(sshd, name="a-1"), make_server(host="192.0.2.7", name="b-2")
    text = f"echo before; echo one >> {tmp_path}/times; {cue}; echo after; exit 3"
    run = run_command(asked(first, second, script=text, one_by_one=True))
    cue.wait()
    wait_until(lambda: output(run) == ["before"], "its output to be logged")
    worker.kill_horse()
    wait_until(lambda: fresh(run).status == "interrupted", "the loss to be noticed")
    cue.give()
    wait_until(lambda: not fresh(run).is_active, "the run to be settled")
    assert (tmp_path / "times").read_text() == "one\n"
    assert output(run) == ["before", "after"]
    ends = dict(run.targets.values_list("server_name", "status"))
    assert ends == {"a-1": "failed", "b-2": "skipped"}
    assert run.targets.get(server_name="a-1").exit_code == 3


def test_what_was_not_begun_when_its_worker_was_lost_is_never_begun(sshd, queue_server, tmp_path):
    run = run_command(asked(make_server(sshd), script=f"touch {tmp_path}/ran"))
    assert run.claim_for_worker("lost")
    run.targets.update(status="running")
    assert run.declare_lost("lost")
    assert settle_lost(run.pk)
    assert run.targets.get().status == "skipped"
    assert not (tmp_path / "ran").exists()


def test_cancelled_it_is_ended_with_its_tree(sshd, worker, tmp_path):
    mark = tmp_path / "mark"
    run = run_command(asked(make_server(sshd), script=f"(exec -a {quote(str(mark))} sleep 300) & echo up; wait"))
    wait_until(lambda: output(run) == ["up"], "it to be running")
    assert cancel_command(run)
    wait_until(lambda: not fresh(run).is_active, "it to end")
    assert fresh(run).status == run.targets.get().status == "cancelled"
    assert not processes_running(str(mark))


def test_it_is_ended_at_its_time_limit(sshd, queue_server):
    run = run_command(asked(make_server(sshd), script="sleep 60", timeout=1))
    carry_out(run.pk)
    target = run.targets.get()
    assert target.status == "failed"
    assert "limit of 1 seconds" in target.error


def test_one_after_the_other_it_stops_at_the_first_failure(sshd, queue_server):
    servers = [make_server(sshd, name="a-1"), make_server(host="192.0.2.9", name="b-2")]
    run = run_command(asked(*servers, script="false", one_by_one=True))
    carry_out(run.pk)
    assert [*run.targets.values_list("status", flat=True)] == ["failed", "skipped"]
    assert "a-1" in run.targets.get(server_name="b-2").error


def test_two_names_of_one_machine_and_login_run_it_once(sshd, queue_server, tmp_path):
    run = run_command(asked(make_server(sshd), make_server(sshd), script=f"echo one >> {tmp_path}/times"))
    carry_out(run.pk)
    assert (tmp_path / "times").read_text() == "one\n"
    assert sorted(run.targets.values_list("status", flat=True)) == ["done", "skipped"]
    assert fresh(run).status == "success"


def test_secrets_of_the_projects_there_are_masked(sshd, queue_server):
    server = make_server(sshd)
    project = make_project(deploy_script_path=str(sshd.home / "restart.sh"))
    project.variables.create(name="TOKEN", value="hunter22", is_secret=True)
    shared = VariableSet.objects.create(name="all")
    shared.variables.create(name="KEY", value="hunter33", is_secret=True)
    project.attached_sets.create(variable_set=shared)
    project.config_files.create(path="/etc/shop.conf", content="password = hunter44\n", is_secret=True)
    deployment = make_deployment(project, make_group(server), deployment_type="restart_only")
    Target.objects.filter(deployment=deployment).update(started_at=timezone.now())
    run = run_command(asked(server, script="echo hunter22; echo hunter33; echo hunter44"))
    carry_out(run.pk)
    assert output(run) == ["••••••"] * 3


def test_inactive_servers_are_refused_by_name_and_skipped_in_a_group(sshd, queue_server):
    active, inactive = make_server(sshd, name="a-1"), make_server(name="b-2", is_active=False)
    group = make_group(active, inactive)
    with pytest.raises(CommandRefusedError, match="b-2"):
        run_command(asked(active, inactive))
    run = run_command(asked(groups=[group]))
    carry_out(run.pk)
    assert [*run.targets.values_list("status", flat=True)] == ["done", "skipped"]
    assert fresh(run).status == "success"


def test_production_has_to_be_meant(sshd, queue_server):
    server = make_server(sshd)
    make_group(server)
    with pytest.raises(CommandRefusedError, match="confirm"):
        run_command(asked(server, confirmed=False))
    make_group(staging := make_server(sshd), environment="staging")
    assert run_command(asked(staging, confirmed=False)).pk


def test_rights_are_asked_in_every_environment_of_every_server(sshd, queue_server):
    both, staging = make_server(sshd), make_server(sshd)
    make_group(both, environment="staging")
    make_group(both, environment="production")
    make_group(staging, environment="staging")
    trusted = make_member("operator", "staging", commands=True)
    closed = saved_with({"name": "WORD"}, name="Closed")
    opened = saved_with({"name": "WORD"}, name="Open", for_operators=True)
    values = {"trigger": "web", "created_by": trusted}
    assert run_command(asked(staging, **values)).pk
    with pytest.raises(NotAllowedError):
        run_command(asked(both, **values))
    with pytest.raises(NotAllowedError):
        run_command(asked(staging, make_server(sshd), **values))  # in no group
    for role in ("operator", "maintainer"):  # neither role has it by itself
        values["created_by"] = make_member(role, "staging")
        assert run_command(asked(staging, script="", saved=opened, **values)).pk
        for saved in (closed, None):
            with pytest.raises(NotAllowedError) as refusal:
                run_command(asked(staging, script="" if saved else "id", saved=saved, **values))
            assert refusal.value.who == [trusted.username]


def test_who_loses_the_right_meanwhile_runs_nothing(sshd, queue_server, tmp_path):
    server = make_server(sshd)
    make_group(server, environment="staging")
    user = make_member("maintainer", "staging", commands=True)
    run = run_command(asked(server, script=f"touch {tmp_path}/ran", trigger="web", created_by=user))
    user.grants.update(may_run_commands=False)
    assert not carry_out(run.pk)
    assert fresh(run).status == "failed"
    assert "no longer has the right" in fresh(run).error_message
    assert not (tmp_path / "ran").exists()


def test_a_hold_and_a_lock_of_an_environment_stop_it_at_the_launch_and_at_the_turn(sshd, queue_server, tmp_path):
    server = make_server(sshd)
    make_group(server)
    run = run_command(asked(server, script=f"touch {tmp_path}/ran"))
    lock = Lock.objects.create(environment="production", reason="Hands off", made_for="somebody")
    with pytest.raises(CommandRefusedError, match="Hands off"):
        run_command(asked(server))
    assert not carry_out(run.pk)
    assert "Hands off" in fresh(run).error_message
    assert run_command(asked(server, launched_for="somebody")).pk  # its maker passes by hand
    lock.delete()
    Hold.objects.create(reason="Nothing now", made_for="somebody")
    with pytest.raises(CommandRefusedError, match="Nothing now"):
        run_command(asked(server, launched_for="somebody"))
    assert not (tmp_path / "ran").exists()


def test_where_that_is_asked_for_it_is_not_run_beside_a_deployment(sshd, queue_server, tmp_path):
    server = make_server(sshd)
    deployment = make_deployment(make_project(), make_group(server), deployment_type="restart_only")
    run = run_command(asked(server, script=f"touch {tmp_path}/ran", not_while_deploying=True))
    carry_out(run.pk)
    assert run.targets.get().status == "failed"
    assert f"#{deployment.pk}" in run.targets.get().error
    assert not (tmp_path / "ran").exists()


def test_the_sweep_sends_again_what_never_reached_the_queue(sshd, queue_server):
    run = run_command(asked(make_server(sshd)))
    queue_server.client.flushall()
    CommandRun.objects.update(created_at=timezone.now() - LOST_JOB - timedelta(seconds=1))
    assert sweep_commands()["again"] == [run.pk]


def test_a_cancelled_one_that_nobody_has_taken_is_never_run(sshd, queue_server):
    run = run_command(asked(make_server(sshd)))
    assert cancel_command(run)
    assert not carry_out(run.pk)
    assert run.targets.get().status == "cancelled"
    assert not cancel_command(run)


def test_only_one_worker_takes_it(sshd, queue_server):
    run = run_command(asked(make_server(sshd)))
    assert [CommandRun.objects.get(pk=run.pk).claim_for_worker() for _try in range(2)] == [True, False]
    assert CommandTarget.objects.get(run=run).run_key
