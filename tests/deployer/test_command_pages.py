"""The pages of commands on servers: what is saved, the form, a run and its log; who sees and does what."""

from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from deployer.commanding.work import carry_out
from deployer.models import CommandRun, SavedCommand
from people.models import ApiToken, Entry
from tests.factories import make_group, make_member, make_server, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


ROWS = {"parameters-TOTAL_FORMS": "1", "parameters-INITIAL_FORMS": "0"}


def test_a_command_is_saved_with_its_parameters_run_and_shown(sshd, queue_server):
    server = make_server(sshd, name="web-1")
    make_group(server, environment="staging")
    client = client_of(make_member("operator", "staging", commands=True))
    sent = ROWS | {
        "name": "Clean",
        "environment": "staging",
        "script": 'echo "<b>$WHAT</b>"',
        "timeout": "60",
        "for_operators": "on",
        "parameters-0-name": "WHAT",
        "parameters-0-choices": "cache\r\nlogs",
        "parameters-0-required": "on",
        "parameters-0-position": "0",
    }
    assert client.post(reverse("command_add"), sent).status_code == 302
    saved = SavedCommand.objects.get()
    assert saved.parameters.get().choice_list == ["cache", "logs"]
    assert {entry.kind for entry in Entry.objects.filter(act="created")} >= {"savedcommand", "commandparameter"}
    operator = client_of(make_member("operator", "staging"))
    form = reverse("command_form") + f"?command={saved.pk}"
    assert "logs" in operator.get(form).content.decode()
    refused = operator.post(form, {"p_WHAT": "cache"}).content.decode()
    assert "Choose at least one server" in refused
    assert not CommandRun.objects.exists()
    answer = operator.post(form, {"p_WHAT": "logs", "servers": [str(server.pk)]})
    run = CommandRun.objects.get()
    assert answer["Location"] == run.get_absolute_url()
    carry_out(run.pk)
    page = operator.get(run.get_absolute_url()).content.decode()
    assert "&lt;b&gt;logs&lt;/b&gt;" in page
    assert "<b>logs" not in page
    log = operator.get(reverse("command_log", args=[run.pk]))
    assert "<b>logs</b>" in b"".join(log).decode()


def test_production_asks_to_be_confirmed(sshd, queue_server):
    server = make_server(sshd)
    make_group(server)
    client = client_of(make_user())
    form = reverse("command_form")
    sent = {"script": "id", "servers": [str(server.pk)]}
    assert "confirm that they are meant" in client.post(form, sent).content.decode()
    assert client.post(form, sent | {"confirm": "on"}).status_code == 302


def test_a_poll_brings_news_and_is_empty_without(sshd, queue_server, django_assert_num_queries):
    server = make_server(sshd)
    make_group(server)
    client = client_of(make_user())
    client.post(reverse("command_form"), {"script": "echo hello", "servers": [str(server.pk)], "confirm": "on"})
    run = CommandRun.objects.get()
    poll = client.get(run.get_absolute_url()).context["poll"]
    with django_assert_num_queries(1):
        assert client.get(poll).status_code == 204
    carry_out(run.pk)
    news = client.get(poll).content.decode()
    assert "hello" in news
    assert 'id="command-state"' in news
    assert "hx-get" not in news.partition("</span>")[0]  # it asks no more


def test_equal_outputs_stand_together_and_failures_first(sshd, queue_server):
    run = CommandRun.objects.create(name="x", script="x", environments=",production,", status="failed")
    for name, status, line in (("a", "done", "same"), ("b", "done", "same"), ("c", "failed", "other")):
        target = run.targets.create(server_name=name, host="x", status=status, exit_code=int(status == "failed"))
        run.log_lines.create(target=target, content=line, stream="stdout", timestamp="2026-01-01T00:00:00Z")
    CommandRun.objects.update(finished_at="2026-01-01T00:00:00Z")
    outputs = client_of(make_user()).get(run.get_absolute_url()).context["outputs"]
    assert [[target.server_name for target in it.targets] for it in outputs] == [["c"], ["a", "b"]]
    assert [it.lines for it in outputs] == [["other"], ["same"]]


def test_a_run_is_seen_by_operators_of_all_of_its_environments(sshd):
    run = CommandRun.objects.create(name="x", script="x", environments=",staging,production,")
    everywhere = CommandRun.objects.create(name="x", script="x", environments=",*,")
    assert client_of(make_member("viewer")).get(run.get_absolute_url()).status_code == 404
    assert client_of(make_member("operator", "staging")).get(run.get_absolute_url()).status_code == 404
    operator = client_of(make_member("operator"))
    assert operator.get(run.get_absolute_url()).status_code == 200
    assert operator.get(everywhere.get_absolute_url()).status_code == 200


def test_it_is_cancelled_by_a_button(sshd, queue_server):
    server = make_server(sshd)
    make_group(server)
    client = client_of(make_user())
    client.post(reverse("command_form"), {"script": "sleep 9", "servers": [str(server.pk)], "confirm": "on"})
    run = CommandRun.objects.get()
    client.post(reverse("command_cancel", args=[run.pk]))
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert Entry.objects.filter(kind="commandrun", act="cancelled").exists()


def test_the_api_runs_reads_follows_and_cancels(sshd, queue_server):
    server = make_server(sshd, name="web-1")
    make_group(server, environment="staging")
    user = make_member("operator", "staging", commands=True)
    token = ApiToken(name="t", user=user)
    headers = {"Authorization": f"Bearer {token.renew()}"}
    token.save()

    def ask(method: str, address: str, body: Any = None) -> Any:
        call = getattr(Client(headers=headers), method)
        return call(f"/api/v1/{address}", body, content_type="application/json")

    saved = SavedCommand.objects.create(name="Say", script="echo $WORD $KEY", environment="staging")
    saved.parameters.create(name="WORD")
    saved.parameters.create(name="KEY", is_secret=True)
    assert [it["name"] for it in ask("get", "commands").json()["items"]] == ["Say"]
    sent = {"command_id": saved.pk, "servers": ["web-1"], "values": {"WORD": "hello", "KEY": "hunter22"}}
    made = ask("post", "command-runs", sent)
    assert made.status_code == 201
    number = made.json()["id"]
    assert made.json()["values"] == {"WORD": "hello", "KEY": "••••••"}
    carry_out(number)
    read = ask("get", f"command-runs/{number}").json()
    assert (read["status"], read["targets"][0]["exit_code"]) == ("success", 0)
    log = ask("get", f"command-runs/{number}/log").json()
    assert log["done"]
    assert [line["content"] for line in log["lines"] if line["stream"] == "stdout"] == ["hello ••••••"]
    assert ask("post", f"command-runs/{number}/cancel").status_code == 409
    assert ask("post", "command-runs", {"script": "id", "servers": ["nowhere"]}).status_code == 404
    refused = ask("post", "command-runs", {"command_id": saved.pk, "servers": ["web-1"], "values": {"X": "y"}})
    assert (refused.status_code, refused.json()["field"]) == (422, "values")


def test_the_command_line_runs_waits_and_ends_with_its_status(sshd, worker, capsys, tmp_path):
    make_group(make_server(sshd, name="web-1"), name="web")
    saved = SavedCommand.objects.create(name="Say", script='echo "$WORD"; exit 4')
    saved.parameters.create(name="WORD", is_secret=True)
    secret = tmp_path / "secret"
    secret.write_text("hunter22\n")
    with pytest.raises(CommandError, match="production"):
        call_command("command", "run", "--saved", "Say", "--group", "web", "--set", "WORD=x")
    with pytest.raises(SystemExit) as end:
        call_command(
            "command", "run", "--saved", "Say", "--group", "web", "--set-from", f"WORD={secret}", "--yes", "--wait"
        )
    assert end.value.code == 1
    printed = capsys.readouterr().out
    assert "web-1 | ••••••" in printed
    assert "status 4" in printed
    run = CommandRun.objects.get()
    assert Entry.objects.get(kind="commandrun", act="launched").login
    with pytest.raises(CommandError, match="already ended"):
        call_command("command", "cancel", str(run.pk))
    with pytest.raises(CommandError, match="nowhere"):
        call_command("command", "run", "--line", "id", "--server", "nowhere")


def test_saved_commands_are_listed_for_whoever_reaches_their_environment():
    for name, environment in (("All", ""), ("Staged", "staging"), ("Live", "production")):
        SavedCommand.objects.create(name=name, environment=environment, script="ls")
    for user, seen in (
        (make_user(), {"All", "Staged", "Live"}),
        (make_member("admin"), {"All", "Staged", "Live"}),
        (make_member("viewer", "staging"), {"All", "Staged"}),
        (make_user(is_superuser=False), set()),
    ):
        assert {str(each) for each in SavedCommand.objects.reached_by(user)} == seen
        page = client_of(user).get(reverse("commands")).content.decode()
        assert {name for name in ("All", "Staged", "Live") if f">{name}<" in page} == seen
