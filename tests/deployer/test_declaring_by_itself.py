"""Schedules, webhooks and channels in the YAML of `apply`: the round trip, owners, rights, and no secret in a file."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.forms import model_to_dict
from django.test import Client
from django.urls import reverse

from deployer.declaring.export import as_yaml, channel_as_yaml
from deployer.declaring.reading import DeclarationError, DeclarationFile
from deployer.declaring.writing import apply
from deployer.models import Channel, Schedule, Webhook
from deployer.notices.events import USUAL
from deployer.triggers.schedules import fire_due
from people.models import Entry, User
from projects.models import Project
from servers.models import ServerGroup
from tests.factories import make_group, make_member, make_project, make_user

pytestmark = pytest.mark.django_db

SECRET = "hunter2-and-more"
NIGHTLY = """
projects:
  - name: shop
    schedules:
      - {name: nightly, deployment_type: full, branch: main, time_zone: Europe/Berlin, busy: queue,
         cron: "30 2 * * 1-5"}
      - name: once
        at: "2027-10-31 02:30"
        time_zone: Europe/Berlin
        missed: once
        server_groups: [web]
        answers: {MODE: readonly}
        answers_env: {TOKEN: SHOP_TOKEN}
    webhooks:
      - name: push
        provider: gitlab
        events: [push, tag]
        refs: [main, "tags/v*", "!tags/v0*"]
        paths: ["shop/**", "!**/*.md"]
        queue: all
        server_groups: [web]
        answers_env: {TOKEN: SHOP_TOKEN}
"""
CHANNEL = """
channels:
  - name: ops
    kind: telegram
    address: {chat: "-1001"}
    address_env: {token: BOT_TOKEN}
    events: [failed, launched]
    environments: [production, development]
    projects: [shop]
    first_of_a_row: false
    language: zh-hans
"""


def applied(text: str, acting: User | None = None, **options: Any) -> list[str]:
    return [str(each) for each in apply([DeclarationFile("a.yaml", text.encode(), Path())], acting=acting, **options)]


def refusal(text: str, acting: User | None = None) -> str:
    with pytest.raises(DeclarationError) as refused:
        applied(text, acting)
    return str(refused.value)


def of(project: Project) -> list[Any]:
    """All of what launches it, without numbers, keys and moments of being written."""
    left_out = ["id", "project", "secret", "key"]
    rows = [*project.schedules.all(), *project.webhooks.all()]
    return [(model_to_dict(row, exclude=left_out), row.answers, [*row.server_groups.all()]) for row in rows]


@pytest.fixture
def group() -> ServerGroup:
    return make_group(name="web", environment="production")


@pytest.fixture
def project(group: ServerGroup, monkeypatch: pytest.MonkeyPatch) -> Project:
    it = make_project(name="shop", environment="production")
    it.server_groups.add(group)
    it.variables.create(name="MODE", value="normal", is_prompt=True, choices="normal\nreadonly")
    it.variables.create(name="TOKEN", value="none", is_prompt=True, is_secret=True)
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    monkeypatch.setenv("BOT_TOKEN", SECRET)
    return it


@pytest.fixture
def admin() -> User:
    it: User = make_user("root")
    return it


def set_all(text: str, monkeypatch: pytest.MonkeyPatch, value: str = SECRET) -> None:
    for line in text.splitlines():
        if line.startswith("# Set these environment variables first: "):
            for name in line.partition(": ")[2].split(", "):
                monkeypatch.setenv(name, "none" if name == "SHOP_TOKEN" else value)


def test_what_is_declared_launches_by_itself_and_the_round_trip_changes_nothing(
    project: Project, group: ServerGroup, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "\n".join(applied(NIGHTLY, admin))
    assert SECRET not in told
    assert "schedules.nightly.owner: root" in told
    assert applied(NIGHTLY, admin) == []
    nightly, once = project.schedules.order_by("name")
    assert (nightly.owner, nightly.is_active, nightly.branch, nightly.busy) == (admin, True, "main", "queue")
    assert nightly.next_at is not None
    assert once.at == once.next_at == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)  # the first of two
    assert once.answers == {"MODE": "readonly", "TOKEN": SECRET}
    push = project.webhooks.get()
    assert (push.owner, push.is_active, push.events, push.queue) == (admin, True, ["push", "tag"], "all")
    assert push.secret.startswith("whsec_")
    assert [*push.server_groups.all()] == [*once.server_groups.all()] == [group]

    text, before, secret = as_yaml(project), of(project), push.secret
    assert SECRET not in text
    assert secret not in text
    assert push.key not in text
    assert "TOKEN: SHOP_SCHEDULE_ONCE_TOKEN" in text
    set_all(text, monkeypatch)
    assert applied(text, admin) == []
    assert applied(text) == []
    project.schedules.all().delete()
    project.webhooks.all().delete()
    assert len(applied(text, admin)) == 1
    assert of(project) == before
    assert as_yaml(project) == text
    assert project.webhooks.get().secret != secret, "a new one has a new secret"


@pytest.mark.parametrize("at", ["2027-10-31 02:30:00+01:00", "2027-10-31 02:30:07+02:00"])
def test_a_moment_that_no_clock_says_by_itself_comes_back_as_it_was(project: Project, admin: User, at: str) -> None:
    """The second of two, and one with seconds."""
    applied(NIGHTLY.replace("2027-10-31 02:30", at), admin)
    once = project.schedules.get(name="once")
    assert once.at == datetime.fromisoformat(at)
    assert f"at: '{at}'" in as_yaml(project)


def test_a_webhook_keeps_its_secret_and_address_and_a_schedule_its_next_moment(project: Project, admin: User) -> None:
    applied(NIGHTLY, admin)
    push, nightly = project.webhooks.get(), project.schedules.get(name="nightly")
    soon = datetime(2026, 1, 1, tzinfo=UTC)
    project.schedules.filter(pk=nightly.pk).update(next_at=soon)
    changed = NIGHTLY.replace("queue: all", "queue: refuse").replace("busy: queue", "busy: skip")
    (told,) = applied(changed, admin)
    assert "webhooks.push.queue: all → refuse" in told
    again = project.webhooks.get()
    assert (again.pk, again.key, again.secret, again.queue) == (push.pk, push.key, push.secret, "refuse")
    nightly.refresh_from_db()
    assert (nightly.busy, nightly.next_at) == ("skip", soon)
    applied(changed.replace("30 2 * * 1-5", "45 2 * * *"), admin)
    nightly.refresh_from_db()
    assert nightly.next_at is not None
    assert nightly.next_at != soon
    assert nightly.next_at.minute == 45


def test_once_becomes_again_and_again_and_what_is_left_out_is_gone(project: Project, admin: User) -> None:
    applied(NIGHTLY, admin)
    text = 'projects: [{name: shop, schedules: [{name: once, cron: "0 4 * * *"}], webhooks: []}]'
    applied(text, admin)
    once = project.schedules.get()
    assert (once.at, once.cron, once.answers, [*once.server_groups.all()]) == (None, "0 4 * * *", None, [])
    assert not project.webhooks.exists()
    assert applied(text, admin) == []
    applied("projects: [{name: shop, description: x}]", admin)
    assert project.schedules.exists(), "a file that does not name them leaves them alone"


def test_made_for_nobody_it_is_paused_and_says_so_until_somebody_takes_it(project: Project, admin: User) -> None:
    told = "\n".join(applied(NIGHTLY.replace("name: push", "name: push\n        is_active: true")))
    assert "webhooks.push.paused_reason: It has no owner" in told
    for row in (*project.schedules.all(), *project.webhooks.all()):
        assert (row.owner, row.is_active) == (None, False)
        assert "It has no owner" in row.paused_reason
    assert fire_due(datetime(2030, 1, 1, tzinfo=UTC)) == []
    assert applied(NIGHTLY.replace("name: push", "name: push\n        is_active: true")) == []
    assert applied(NIGHTLY, admin) == []
    applied(NIGHTLY.replace("busy: queue", "busy: skip").replace("queue: all", "queue: newest"), admin)
    for row in (project.schedules.get(name="nightly"), project.webhooks.get()):
        assert (row.owner, row.is_active, row.paused_reason) == (admin, True, "")
    assert not project.schedules.get(name="once").is_active


def test_what_was_paused_stays_so_unless_the_file_says_otherwise(project: Project, admin: User) -> None:
    applied(NIGHTLY, admin)
    project.schedules.get(name="nightly").pause("")
    project.webhooks.get().pause("by maria")
    assert applied(NIGHTLY, admin) == []
    text = as_yaml(project)
    assert text.count("is_active: false") == 2
    resumed = NIGHTLY.replace("name: push", "name: push\n        is_active: true")
    assert "webhooks.push.is_active: false → true" in applied(resumed, admin)[0]
    push = project.webhooks.get()
    assert (push.is_active, push.paused_reason) == (True, "")
    applied(resumed.replace("is_active: true", "is_active: false"), admin)
    assert not project.webhooks.get().is_active
    assert not project.schedules.get(name="nightly").is_active


def test_a_schedule_that_somebody_changes_is_theirs_and_a_webhook_stays_whose_it_was(
    project: Project, admin: User
) -> None:
    applied(NIGHTLY, admin)
    maria = make_member("maintainer", "production")
    text = NIGHTLY.replace("branch: main", "branch: v1").replace("queue: all", "queue: newest")
    (told,) = applied(text, maria)
    assert f"schedules.nightly.owner: root → {maria}" in told
    assert project.schedules.get(name="nightly").owner == maria
    assert project.webhooks.get().owner == admin
    applied(NIGHTLY)
    assert project.schedules.get(name="nightly").owner == maria, "the machine's own login takes nothing away"


def test_who_may_not_launch_there_declares_nothing_that_does(project: Project, group: ServerGroup) -> None:
    other = make_group(name="other", environment="production")
    some = make_member("maintainer", "production", project=project.pk)
    said = refusal(NIGHTLY.replace("[web]", "[other]"), some)
    assert f"{some} has no right to launch there." in said
    assert "a.yaml: projects[0].schedules[1]" in said
    assert not Schedule.objects.exists()
    viewer = make_member("operator", "production")
    assert "has no right to this project" in refusal(NIGHTLY, viewer)
    assert other.pk


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("30 2 * * 1-5", "61 2 * * *", "projects[0].schedules[0].cron: “61 2 * * *” is no pattern"),
        ("30 2 * * 1-5", "0 0 31 2 *", "schedules[0].cron"),
        (',\n         cron: "30 2 * * 1-5"', "", "schedules[0].cron: Give a cron pattern, or one moment."),
        ('at: "2027-10-31 02:30"', 'at: "tomorrow"', "schedules[1].at: Give a day and a time"),
        ('at: "2027-10-31 02:30"', 'at: "9999-12-31 23:59"', "schedules[1].at: Give a day and a time"),
        ("time_zone: Europe/Berlin, ", "time_zone: ../../etc/passwd, ", "is not a time zone"),
        ("branch: main", "branch: --upload-pack=x", "is not the name of a branch"),
        ("busy: queue", "busy: later", "schedules[0].busy: expected one of skip, queue."),
        ("name: once", "name: nightly", "the same name is already declared"),
        ("name: once", 'name: "a\\nb"', "schedules[1].name"),
        ("[web]", "[wbe]", "Did you mean “web”?"),
        ("MODE: readonly", "MODE: other", "schedules[1].answers.MODE: MODE takes one of these answers"),
        ("MODE: readonly", "MODEL: x", "schedules[1].answers.MODEL: “MODEL” cannot be set"),
        ("MODE: readonly", "MODE: [x]", "schedules[1].answers.MODE: expected text, not a list"),
        ("{MODE: readonly}", "MODE=readonly", "expected keys and values, not text"),
        ("{MODE: readonly}", "{MODE: readonly, TOKEN: x}", "already sets this"),
        ("TOKEN: SHOP_TOKEN", "TOKEN: NOT_THERE", "“NOT_THERE” is not set"),
        ("provider: gitlab", "provider: cvs", "webhooks[0].provider: expected one of"),
        ("provider: gitlab", "provider: gitlab\n        secret: x", "webhooks[0].secret: there is no such key"),
        ("provider: gitlab", "provider: gitlab\n        owner: root", "webhooks[0].owner: there is no such key"),
        ("[push, tag]", "[push, force]", "webhooks[0].events: Choose among push"),
        ('"tags/v*"', '"!"', "is no pattern"),
        ("busy: queue", "busy: queue, owner: root", "schedules[0].owner: there is no such key"),
        ("busy: queue", "busy: queue, next_at: x", "schedules[0].next_at: there is no such key"),
    ],
)
def test_a_mistake_is_said_where_it_is(project: Project, old: str, new: str, told: str) -> None:
    assert old in NIGHTLY
    said = refusal(NIGHTLY.replace(old, new))
    assert told in said
    assert SECRET not in said
    assert not Schedule.objects.exists()
    assert not Webhook.objects.exists()


def test_a_question_without_a_default_has_to_be_answered(project: Project) -> None:
    project.variables.create(name="REGION", is_prompt=True)
    said = refusal(NIGHTLY)
    assert "projects[0].schedules[0]: REGION needs an answer: it has no default." in said
    text = NIGHTLY.replace("busy: queue,", "busy: queue, answers: {REGION: eu},")
    text = text.replace("answers: {MODE", "answers: {REGION: eu, MODE")
    text = text.replace("queue: all", "queue: all\n        answers: {REGION: eu}")
    assert applied(text)


def test_the_sender_of_a_webhook_stays_as_it_is(project: Project, admin: User) -> None:
    applied(NIGHTLY, admin)
    said = refusal(NIGHTLY.replace("provider: gitlab", "provider: github"), admin)
    assert "webhooks[0].provider: The sender of a webhook stays as it is" in said


def test_a_group_of_another_environment_is_refused(project: Project) -> None:
    make_group(name="lab", environment="staging")
    assert "webhooks[0].server_groups: Group “lab” is for another environment" in refusal(
        NIGHTLY.replace("web]", "lab]")
    )


def test_it_is_recorded_without_secrets(project: Project, admin: User) -> None:
    applied(NIGHTLY, admin)
    entries = Entry.objects.filter(kind__in=["schedule", "webhook"], act="created", note="declared in a file")
    assert sorted(entry.name for entry in entries) == ["nightly", "once", "push"]
    assert not [entry for entry in entries if SECRET in str(entry.after)]


def test_the_command_says_where_the_secret_is_shown(project: Project, admin: User, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(NIGHTLY)
    out = io.StringIO()
    call_command("apply", str(path), "--dry-run", acting="root", stdout=out)
    assert "Webhook “push”" not in out.getvalue()
    call_command("apply", str(path), acting="root", stdout=out)
    push = project.webhooks.get()
    assert "Webhook “push” of “shop”" in out.getvalue()
    assert push.get_absolute_url() in out.getvalue()
    assert push.secret not in out.getvalue()
    again = io.StringIO()
    call_command("apply", str(path), acting="root", stdout=again)
    assert again.getvalue() == "Nothing to change.\n"


HOSTILE = ["<script>alert(1)</script>", 'it\'s "all": {x}', "日本 ‮ # name", "- null", "!!int 7", "${HOME}", "&a *a"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_values_come_back_as_they_were(
    project: Project, admin: User, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.variables.create(name="TEXT", is_prompt=True, value="x")
    Schedule.objects.create(project=project, name=name, cron="0 1 * * *", owner=admin, answers={"TEXT": f"{name}\n b "})
    answers = {"TEXT": name, "TOKEN": name}
    Webhook.objects.create(project=project, name=name, provider="generic", owner=admin, refs=[name], answers=answers)
    channel = Channel.objects.create(name=name, kind="slack", address={"url": "https://example.com/x"}, events=[])
    text, other = as_yaml(project), channel_as_yaml(channel)
    assert "example.com" not in other
    set_all(text, monkeypatch, name)
    set_all(other, monkeypatch, "https://example.com/x")
    assert applied(text, admin) == []
    assert applied(other, admin) == []


# --- channels ----------------------------------------------------------------------------------------


def test_a_channel_is_declared_exported_and_the_same_again(
    project: Project, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "\n".join(applied(CHANNEL, admin))
    assert SECRET not in told
    assert "-1001" not in told
    channel = Channel.objects.get()
    assert channel.address == {"token": SECRET, "chat": "-1001"}
    assert channel.events == ["launched", "failed"]  # in the order in which they are listed
    assert (channel.made_by, channel.language, channel.first_of_a_row) == (admin, "zh-hans", False)
    assert [*channel.projects.all()] == [project]
    assert applied(CHANNEL, admin) == []
    text = channel_as_yaml(channel)
    assert SECRET not in text
    assert "-1001" not in text
    assert "address_env:\n      token: OPS_TOKEN\n      chat: OPS_CHAT\n" in text
    monkeypatch.setenv("OPS_TOKEN", SECRET)
    monkeypatch.setenv("OPS_CHAT", "-1001")
    assert applied(text, admin) == []
    before = model_to_dict(channel, exclude=["id"])
    channel.delete()
    applied(text, admin)
    assert model_to_dict(Channel.objects.get(), exclude=["id"]) == before
    assert Entry.objects.filter(kind="channel", act="created", note="declared in a file").count() == 2
    assert not Entry.objects.filter(after__icontains=SECRET).exists()


def test_a_channel_without_events_tells_the_usual_ones_and_none_are_none(project: Project, admin: User) -> None:
    text = "channels: [{name: ops, kind: slack, address: {url: 'https://example.com/a'}}]"
    applied(text, admin)
    channel = Channel.objects.get()
    assert {*channel.events} == {event.value for event in USUAL}
    channel.events = []
    channel.save()
    assert applied(text, admin) == []
    assert "events: []" in channel_as_yaml(channel)


def test_a_paused_channel_stays_so_unless_the_file_says_otherwise(project: Project, admin: User) -> None:
    applied(CHANNEL, admin)
    Channel.objects.get().pause("ten could not be delivered")
    assert applied(CHANNEL, admin) == []
    assert "is_active: false" in channel_as_yaml(Channel.objects.get())
    resumed = CHANNEL.replace("name: ops", "name: ops\n    is_active: true")
    assert "is_active: false → true" in applied(resumed, admin)[0]
    channel = Channel.objects.get()
    assert (channel.is_active, channel.paused_reason) == (True, "")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kind: telegram", "kind: pigeon", "channels[0].kind: expected one of"),
        ('address: {chat: "-1001"}', "description: x", "there is no such key"),
        ('    address: {chat: "-1001"}\n', "", "“chat” is missing: give it as address_env: {chat: VARIABLE}."),
        ('{chat: "-1001"}', '{chat: "-1001", caht: x}', "has no “caht”; expected token, chat, server."),
        ('{chat: "-1001"}', '{chat: "-1001", server: "file:///etc"}', "channels[0].address.server: Give an address"),
        ('{chat: "-1001"}', '{chat: "a\\nb"}', "channels[0].address.chat: Give one line"),
        (
            '{chat: "-1001"}',
            "{chat: x, token: y}",
            "channels[0].address_env.token: “channels[0].address.token” already",
        ),
        ("BOT_TOKEN", "NOT_THERE", "“NOT_THERE” is not set"),
        ("[failed, launched]", "[failed, test]", "channels[0].events: expected one of launched"),
        ("[production, development]", "[moon]", "channels[0].environments: There is no such environment."),
        ("[shop]", "[shpo]", "Did you mean “shop”?"),
        ("zh-hans", "tlh", "channels[0].language: expected one of"),
        ("language: zh-hans", "made_by: root", "channels[0].made_by: there is no such key"),
    ],
)
def test_a_mistake_of_a_channel_is_said_where_it_is(project: Project, old: str, new: str, told: str) -> None:
    assert old in CHANNEL
    said = refusal(CHANNEL.replace(old, new))
    assert told in said
    assert SECRET not in said
    assert not Channel.objects.exists()


def test_a_channel_takes_the_right_to_edit_where_it_tells(project: Project, admin: User) -> None:
    some = make_member("maintainer", "production")
    assert "has no right to this" in refusal(CHANNEL, some)
    text = CHANNEL.replace("[production, development]", "[production]")
    applied(text, some)
    assert "has no right to this channel" in refusal(text.replace("-1001", "-2"), make_member("operator", "production"))
    other = "channels: [{name: any, kind: other, environments: [production], address: {url: 'json://example.com/'}}]"
    assert "channels[0].kind: Only administrators have channels of this kind." in refusal(other, some)
    applied(other, admin)
    changed = other.replace("address", "only_failures: true, address")
    assert "Only administrators" in refusal(changed, some)
    assert "The kind of a channel stays as it is" in refusal(other.replace("kind: other", "kind: slack"), admin)


def test_the_page_of_a_channel_gives_its_file_to_whoever_may_edit_it(
    project: Project, admin: User, client: Client
) -> None:
    applied(CHANNEL, admin)
    channel = Channel.objects.get()
    address = reverse("channel_yaml", args=[channel.pk])
    client.force_login(admin)
    answer = client.get(address)
    assert answer["Content-Disposition"] == 'attachment; filename="ops.yaml"'
    assert answer.content.decode() == channel_as_yaml(channel)
    assert address in client.get(reverse("channel", args=[channel.pk])).content.decode()
    client.force_login(make_member("viewer"))
    assert client.get(address).status_code == 403
    client.force_login(make_member("viewer", "staging"))
    assert client.get(address).status_code == 404
