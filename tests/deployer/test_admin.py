"""The admin: every page of it opens, secrets go in and never come out, records are only looked at."""

import re
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from django.contrib.auth.models import Group, Permission
from django.db.models import TextField, Value
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.models import (
    Channel,
    CommandRun,
    Delivery,
    Deployment,
    LogLine,
    Notice,
    Release,
    SavedCommand,
    Schedule,
    Train,
    TrainRun,
    TriggerHold,
    Webhook,
)
from people.models import ApiToken, Entry, Grant, User
from projects.models import HealthCheck, Project, Variable
from servers.models import Credential, Server
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db

HOSTILE = "\"><script>alert('x')</script>$(id)"
SECRETS = (
    *("sk_passw0rd", "sk_passphrase", "sk_variable", "sk_planned"),
    *("sk_hook", "sk_former", "sk_answer", "sk_key_of_the_address", "sk_channel", "sk_told", "198.51.100.7"),
)


def private_key() -> str:
    return (
        ed25519.Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        .decode()
    )


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(make_user("boss"))
    return client


def viewer(*permissions: str) -> Client:
    """A member of staff who sees everything, and may do just that."""
    user = make_user("viewer", is_superuser=False, is_staff=True)
    Grant.objects.create(user=user, role="viewer")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def address(row: Any, page: str = "change") -> str:
    return reverse(
        f"admin:{row._meta.label_lower.replace('.', '_')}_{page}", args=[row.pk] if page != "changelist" else []
    )


def form_of(client: Client, url: str) -> dict[str, Any]:
    """What a browser would send back from the form on a page, untouched."""
    answer = client.get(url)
    context = answer.context
    forms = [context["adminform"].form, *(f for each in context["inline_admin_formsets"] for f in each.formset.forms)]
    data = {}
    for form in [*forms, *(each.formset.management_form for each in context["inline_admin_formsets"])]:
        for bound in form:
            widget = getattr(bound.field.widget, "widget", bound.field.widget)  # of related rows it is wrapped
            shown = widget.format_value(bound.value())
            if widget.__class__.__name__ == "CheckboxInput":
                shown = "on" if bound.value() else None
            if isinstance(shown, (list, tuple)):
                shown = shown[0] if shown and not widget.allow_multiple_selected else list(shown)
            if shown is not None:
                data[bound.html_name] = shown
    return data


def saved(client: Client, url: str, data: dict[str, Any]) -> None:
    answer = client.post(url, data)
    errors = re.findall(rb'class="errorlist[^>]*>.*?</ul>', answer.content, re.DOTALL)
    assert answer.status_code == 302, errors


@pytest.fixture
def world() -> list[Any]:
    """One row of every model, full of secrets and of hostile names."""
    key = make_credential(name=f"key {HOSTILE}", kind="ssh_key", private_key=private_key(), passphrase="sk_passphrase")
    login = make_credential(name="login", password="sk_passw0rd")
    server = make_server(name=f"web {HOSTILE}", credential=login, host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==")
    group = make_group(server, name=f"group {HOSTILE}")
    project = make_project(name=f"shop {HOSTILE}", git_credential=key, description=HOSTILE)
    HealthCheck.objects.create(project=project, kind="tcp", target="80")
    planned = Variable.objects.create(project=project, name="SECRET", value="sk_planned", is_secret=True)
    deployment = make_deployment(project, group)
    planned.value = "sk_variable"
    planned.save()
    line = LogLine.objects.create(deployment=deployment, content=HOSTILE, timestamp=timezone.now())
    release = Release.objects.create(project=project, version="20260101-000000", commit_message=HOSTILE)
    command = SavedCommand.objects.create(name=f"web {HOSTILE}", script=HOSTILE, description=HOSTILE)
    command.parameters.create(name="KEY", label=HOSTILE, is_secret=True)
    run = CommandRun.objects.create(
        command=command,
        name=HOSTILE,
        script=HOSTILE,
        values={"KEY": "sk_variable", "OTHER": HOSTILE},
        secret_names=["KEY"],
        environments=",production,",
    )
    run.targets.create(server=server, server_name=HOSTILE, host="h", error=HOSTILE)
    train = Train.objects.create(name=f"web {HOSTILE}"[:100], description=HOSTILE)
    train.stops.create(project=project, release=HOSTILE)
    train_run = TrainRun.objects.create(train=train, name=train.name, note=HOSTILE, why=HOSTILE)
    train_run.stops.create(position=1, project=project, project_name=HOSTILE, environment="production", why=HOSTILE)
    token = ApiToken(name=HOSTILE, user=make_user("other"))
    token.renew()
    token.save()
    triggers = _triggers(project, deployment)
    return [
        key,
        login,
        server,
        group,
        project,
        deployment,
        deployment.targets.get(),
        line,
        release,
        command,
        run,
        train,
        train_run,
        *triggers,
        token,
    ]


def _triggers(project: Project, deployment: Deployment) -> list[Any]:
    """What launches a project by itself, and what is told of it."""
    now, name = timezone.now(), HOSTILE[:100]
    webhook = Webhook(project=project, name=name, provider="github", owner=make_user("owner"), refs=[HOSTILE])
    webhook.secret, webhook.former_secret, webhook.answers = "sk_hook", "sk_former", {"KEY": "sk_answer"}
    webhook.key = "sk_key_of_the_address"
    webhook.save()
    sent = {"identifier": "1", "event": HOSTILE[:60], "kind": "push", "status": "handled", "outcome": "ignored"}
    said = {"ref": HOSTILE, "title": HOSTILE, "reason": HOSTILE, "address": "198.51.100.7", "deployment": deployment}
    delivery = Delivery.objects.create(webhook=webhook, project=project, received_at=now, **sent, **said)
    schedule = Schedule.objects.create(project=project, name=name, cron="30 2 * * *", answers={"KEY": "sk_answer"})
    schedule.runs.create(planned_for=now, outcome="refused", why=HOSTILE, deployment=deployment)
    hold = TriggerHold.objects.create(project=project, reason=HOSTILE, deployment=deployment)
    address = {"url": "https://hooks.example.com/sk_channel"}
    answers = {"last_answer": "sk_answered", "paused_reason": "sk_answered"}
    channel = Channel.objects.create(name=name, kind="slack", address=address, **answers)
    channel.projects.add(project)
    facts, answers = {"reason": "sk_told"}, {"answer": "sk_answered", "status": "failed"}
    told = {"channel": channel, "event": "failed", "deployment": deployment, "created_at": now}
    notice = Notice.objects.create(**told, facts=facts, **answers)
    return [webhook, delivery, schedule, hold, channel, notice]


def test_every_page_opens_escapes_its_text_and_shows_no_secret(admin: Client, world: list[Any]) -> None:
    secrets = [*SECRETS, world[0].private_key.splitlines()[1], world[-1].digest]
    for row in world:
        for url in (address(row, "changelist"), address(row, "changelist") + "?q=web", address(row)):
            page = admin.get(url)
            assert page.status_code == 200, url
            text = page.content.decode()
            assert "<script>alert" not in text, url
            assert not [secret for secret in secrets if secret in text], url


def test_those_who_may_only_look_see_no_secret_either(world: list[Any]) -> None:
    client = viewer(
        "view_credential", "view_project", "view_variable", "change_variable", "add_variable", "view_server"
    )
    for row in (world[0], world[1], world[2], world[4]):
        page = client.get(address(row))
        assert page.status_code == (404 if isinstance(row, Credential) else 200)
        assert not [secret for secret in SECRETS if secret in page.content.decode()]


def test_saving_untouched_forms_keeps_every_secret(admin: Client, world: list[Any]) -> None:
    for row in (world[0], world[1], world[4]):
        saved(admin, address(row), form_of(admin, address(row)))
    key, login = Credential.objects.get(pk=world[0].pk), Credential.objects.get(pk=world[1].pk)
    assert (key.private_key, key.passphrase) == (world[0].private_key, "sk_passphrase")
    assert login.password == "sk_passw0rd"
    assert Variable.objects.get().value == "sk_variable"


def test_a_new_secret_replaces_the_old_one_as_it_was_typed(admin: Client) -> None:
    login = make_credential(name="login", password="sk_passw0rd")
    saved(admin, address(login), form_of(admin, address(login)) | {"password": " new with spaces "})
    login.refresh_from_db()
    assert login.password == " new with spaces "


def test_a_credential_can_change_its_kind(admin: Client) -> None:
    login = make_credential(name="login", password="sk_passw0rd")
    data = form_of(admin, address(login)) | {"kind": "ssh_key"}
    assert b"needs a private key" in admin.post(address(login), data).content
    key = private_key()
    saved(admin, address(login), data | {"private_key": key.replace("\n", "\r\n")})
    login.refresh_from_db()
    assert (login.kind, login.private_key.strip()) == ("ssh_key", key.strip())


def test_a_secret_is_not_shown_again_after_a_mistake_elsewhere(admin: Client) -> None:
    data = {"name": "", "username": "u", "kind": "password", "password": "sk_passw0rd", "private_key": "sk_key"}
    page = admin.post(reverse("admin:servers_credential_add"), data)
    assert b"This field is required" in page.content
    assert b"sk_" not in page.content


def test_the_page_says_which_secrets_are_set(admin: Client) -> None:
    login = make_credential(name="login", password="sk_passw0rd")
    page = admin.get(address(login)).content.decode()
    assert page.count("Set. Leave empty to keep it.") == 1
    assert page.count("Not set.") == 2


def variable_form(admin: Client, **changes: Any) -> tuple[str, dict[str, Any]]:
    url = address(Project.objects.get())
    data = form_of(admin, url)
    for name, value in changes.items():
        key = f"variables-0-{name}"
        data.pop(key, None) if value is None else data.update({key: value})
    return url, data


def test_taking_the_tick_from_a_secret_variable_does_not_show_its_value(admin: Client) -> None:
    Variable.objects.create(project=make_project(), name="KEY", value="sk_variable", is_secret=True)
    url, data = variable_form(admin, is_secret=None)
    page = admin.post(url, data)
    assert b"Enter the value again" in page.content
    assert b"sk_variable" not in page.content
    assert Variable.objects.get().is_secret
    saved(admin, url, data | {"variables-0-value": "open"})
    assert (Variable.objects.get().value, Variable.objects.get().is_secret) == ("open", False)


def test_an_ordinary_variable_is_shown_and_can_be_emptied_or_made_secret(admin: Client) -> None:
    Variable.objects.create(project=make_project(), name="MODE", value="fast & <b>bold</b>")
    url, data = variable_form(admin, is_secret="on")
    assert data["variables-0-value"] == "fast & <b>bold</b>"
    saved(admin, url, data)
    assert Variable.objects.get().is_secret
    assert b"bold" not in admin.get(url).content
    Variable.objects.update(is_secret=False)
    saved(admin, *variable_form(admin, value=""))
    assert Variable.objects.get().value == ""


def test_a_secret_of_several_lines_stays_one(admin: Client) -> None:
    Variable.objects.create(project=make_project(), name="KEY", value="old", is_secret=True)
    url, data = variable_form(admin, value="first\r\nsecond")
    assert "Set. Leave empty to keep it." in admin.get(url).content.decode()
    saved(admin, url, data)
    assert Variable.objects.get().value == "first\nsecond"


def test_the_history_of_a_change_names_the_field_and_not_the_secret(admin: Client) -> None:
    login = make_credential(name="login", password="sk_passw0rd")
    saved(admin, address(login), form_of(admin, address(login)) | {"password": "sk_second"})
    page = admin.get(address(login, "history")).content.decode()
    assert "Changed Password" in page
    assert "sk_" not in page


def test_scripts_are_stored_with_the_line_ends_of_a_server(admin: Client) -> None:
    project = make_project()
    data = form_of(admin, address(project)) | {"build_script": "npm ci\r\nnpm run build", "install_script": "a\r\nb"}
    saved(admin, address(project), data)
    project.refresh_from_db()
    assert (project.build_script, project.install_script) == ("npm ci\nnpm run build", "a\nb")


@pytest.mark.parametrize("index", range(5, 9))
def test_records_can_be_looked_at_and_nothing_else(admin: Client, world: list[Any], index: int) -> None:
    row = world[index]
    assert admin.get(reverse(f"admin:deployer_{row._meta.model_name}_add")).status_code == 403
    assert admin.get(address(row, "delete")).status_code == 403
    assert admin.post(address(row), {"status": "success"}).status_code == 403
    assert "delete_selected" not in admin.get(address(row, "changelist")).content.decode()


def test_the_button_deploy_leads_to_the_launch_form(admin: Client) -> None:
    project = make_project(name="shop")
    for url in (address(project), address(project, "changelist")):
        assert f'href="{reverse("launch", args=[project.pk])}"' in admin.get(url).content.decode()
    assert admin.get(reverse("admin:projects_project_add")).status_code == 200


def test_a_user_is_made_with_groups_and_permissions_and_may_then_log_in(admin: Client) -> None:
    group = Group.objects.create(name="operators")
    group.permissions.set(Permission.objects.filter(codename="view_credential"))
    password = "a long enough one"
    name = {"username": "maria", "usable_password": "true", "password1": password, "password2": password}
    assert admin.post(reverse("admin:people_user_add"), name).status_code == 302
    maria = User.objects.get(username="maria")
    chosen = Permission.objects.get(codename="view_project")
    kept = {"username": "maria", "is_active": "on", "date_joined_0": "2026-11-26", "date_joined_1": "12:00:00"}
    rights = {"is_staff": "on", "groups": [group.pk], "user_permissions": [chosen.pk]}
    saved(admin, address(maria), kept | rights)
    Grant.objects.create(user=maria, role="maintainer")
    client = Client()
    assert client.login(username="maria", password=password)
    assert client.get(reverse("admin:servers_credential_changelist")).status_code == 200
    assert client.get(reverse("admin:projects_project_changelist")).status_code == 200
    assert client.get(address(maria, "changelist")).status_code == 403


def test_a_token_is_shown_once_and_works(admin: Client) -> None:
    url = reverse("admin:people_apitoken_add")
    assert form_of(admin, url)["user"]
    answer = admin.post(url, form_of(admin, url) | {"name": f"ci {HOSTILE}"}, follow=True)
    page = answer.content.decode()
    match = re.search(r"<code>(dpl_[\w-]{43})</code>", page)
    assert match is not None
    assert "<script>alert" not in page
    row = ApiToken.find(match[1])
    assert row is not None
    assert row.user.username == "boss"
    for later in (address(row), address(row, "changelist")):
        assert match[1] not in admin.get(later).content.decode()


def test_changing_a_token_keeps_it_working_for_the_same_user(admin: Client) -> None:
    row = ApiToken(name="ci", user=make_user("other"))
    token = row.renew()
    row.save()
    saved(admin, address(row), {"name": "renamed", "user": make_user("third").pk})
    found = ApiToken.find(token)
    assert found is not None
    assert (found.name, found.user.username) == ("renamed", "other")


def test_who_is_no_superuser_makes_and_sees_tokens_for_nobody_else() -> None:
    boss = make_user("boss")
    theirs = ApiToken(name="of-the-boss", user=boss)
    theirs.renew()
    theirs.save()
    client = viewer("add_apitoken", "view_apitoken", "change_apitoken", "delete_apitoken")
    url = reverse("admin:people_apitoken_add")
    for page in (address(theirs, "changelist"), address(theirs), address(theirs, "delete"), url):
        assert client.get(page).status_code == 403
        assert client.post(page, {"name": "mine", "user": boss.pk}).status_code == 403
    assert [*ApiToken.objects.values_list("name", flat=True)] == ["of-the-boss"]


def test_the_last_admin_is_neither_deactivated_nor_deleted_in_the_admin(admin: Client) -> None:
    boss = User.objects.get(username="boss")
    kept = {"username": "boss", "is_staff": "on", "date_joined_0": "2026-11-26", "date_joined_1": "12:00:00"}
    chosen = {"action": "delete_selected", "_selected_action": [boss.pk], "post": "yes"}
    for url, form in [
        (address(boss), kept | {"is_active": "on"}),
        (address(boss), kept | {"is_superuser": "on"}),
        (address(boss, "delete"), {"post": "yes"}),
        (address(boss, "changelist"), chosen),
    ]:
        page = admin.post(url, form, follow=True).content.decode()
        assert "make somebody else an admin first" in page
        assert "successfully" not in page
        assert User.objects.filter(pk=boss.pk, is_active=True, is_superuser=True).exists()
    make_user("second")
    saved(admin, address(boss), kept | {"is_active": "on"})
    assert not User.objects.get(pk=boss.pk).is_superuser


def test_the_fingerprint_of_a_host_key_is_shown_and_nonsense_is_refused(admin: Client) -> None:
    server = make_server(host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==")
    assert b"SHA256:" in admin.get(address(server)).content
    for nonsense in ("ssh-ed25519", "ssh-ed25519 !!!", "x y z"):
        page = admin.post(address(server), form_of(admin, address(server)) | {"host_key": nonsense})
        assert b"A host key looks like" in page.content
    Server.objects.update(host_key="ssh-ed25519 !!!")
    assert admin.get(address(server)).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_the_action_tests_each_server_and_says_what_was_found(admin: Client, sshd: OpenSSHServer) -> None:
    good = make_server(sshd, name="good")
    bad = make_server(name=f"bad {HOSTILE}", host="127.0.0.1", port=9)
    data = {"action": "test_connections", "_selected_action": [good.pk, bad.pk]}
    page = admin.post(address(good, "changelist"), data, follow=True).content.decode()
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.connection_status, bad.connection_status) == ("online", "offline")
    assert '<li class="success">Connected to good as' in page
    assert "The host key is now pinned: SHA256:" in page
    assert '<li class="error">Bad &quot;&gt;&lt;script&gt;' in page
    assert "127.0.0.1:9: Connection refused." in page
    assert "<script>alert" not in page


@pytest.mark.django_db(transaction=True)
def test_the_action_needs_the_right_to_operate_the_servers() -> None:
    server = make_server(host="127.0.0.1", port=1)
    make_group(server)
    client = viewer("view_server")
    page = client.get(address(server, "changelist"))
    assert page.status_code == 200
    assert b"test_connections" not in page.content
    Grant.objects.create(user=User.objects.get(), role="operator", environment="staging")
    asked = {"action": "test_connections", "_selected_action": [server.pk]}
    client.post(address(server, "changelist"), asked)
    server.refresh_from_db()
    assert server.connection_status == "untested"
    Grant.objects.create(user=User.objects.get(), role="operator", environment="production")
    client.post(address(server, "changelist"), asked)
    server.refresh_from_db()
    assert server.connection_status == "offline"


def test_the_plan_of_a_deployment_is_not_even_read(admin: Client, world: list[Any]) -> None:
    Deployment.objects.update(plan=Value("what no key decrypts", output_field=TextField()))
    for page in ("change", "changelist"):
        assert admin.get(address(world[5], page)).status_code == 200
    assert admin.get(address(world[6])).status_code == 200


def test_every_setting_of_a_project_is_on_its_form(admin: Client) -> None:
    form = admin.get(reverse("admin:projects_project_add")).context["adminform"].form
    editable = {field.name for field in Project._meta.get_fields() if getattr(field, "editable", False)}
    assert set(form.fields) == editable - {"id"}


def test_a_saved_command_is_edited_and_recorded_and_its_runs_are_only_looked_at(admin: Client) -> None:
    command = SavedCommand.objects.create(name="Clean", script="ls", environment="staging")
    command.parameters.create(name="PART", choices="a\nb")
    url = address(command)
    data = form_of(admin, url) | {"script": "first\r\nsecond\r\n", "parameters-0-label": "Part"}
    saved(admin, url, data)
    command.refresh_from_db()
    assert command.script == "first\nsecond\n"
    assert command.parameters.get().label == "Part"
    assert {(entry.act, entry.kind) for entry in Entry.objects.all()} >= {
        ("changed", "savedcommand"),
        ("changed", "commandparameter"),
    }
    run = CommandRun.objects.create(name="ls", script="ls", environments=",staging,")
    for page in ("change", "delete"):
        assert admin.post(address(run, page), {"post": "yes", "name": "x"}).status_code == 403
    assert admin.post(address(command, "delete"), {"post": "yes"}).status_code == 302
    assert Entry.objects.filter(kind="savedcommand", act="deleted").exists()
    assert CommandRun.objects.get().name == "ls"
