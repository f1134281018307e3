"""Two people at once: a form that is older than its row is refused with what the other has changed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib import admin
from django.db import connections
from django.forms import BaseInlineFormSet, ModelForm
from django.test import Client
from django.test.utils import ContextList
from django.urls import reverse

from deployer.models import Freeze
from people.acting import Actor, of_process
from people.admin import PeopleAdmin
from people.forms import PasswordForm
from people.meanwhile import BOX, Token, digests, key_of
from people.models import ApiToken, Team, User
from people.record import delete, saving
from people.snapshots import state
from projects.models import Project
from tests.factories import make_credential, make_group, make_project, make_server, make_user
from tests.marks import on_each_database
from tests.parts.html import tight, values_of
from tests.site import LEAD_ELSEWHERE, PAGES, World, address_of

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

Sent = dict[str, list[str]]


@dataclass(frozen=True)
class Edit:
    """What the first of two people changes on a page, and what the second: a box, and what is typed into it."""

    theirs: tuple[str, str]
    mine: tuple[str, str]
    is_own: bool = False


EDITS = {
    "project_edit": Edit(("deploy_path", "/srv/theirs"), ("description", "what I typed")),
    "project_variables": Edit(("variables-0-value", "theirs"), ("variables-0-name", "MINE")),
    "project_services": Edit(("services-0-name", "theirs"), ("services-0-position", "77")),
    "project_sets": Edit(("attached_sets-0-position", "0"), ("attached_sets-0-position", "1")),
    "set_edit": Edit(("description", "theirs"), ("name", "what I typed")),
    "set_variables": Edit(("variables-0-value", "theirs"), ("variables-0-name", "MINE")),
    "template_edit": Edit(("description", "theirs"), ("name", "what I typed")),
    "template_steps": Edit(("steps-0-script", "true # theirs"), ("steps-0-name", "what I typed")),
    "template_health": Edit(("health_checks-0-target", "theirs"), ("health_checks-0-retries", "77")),
    "template_variables": Edit(("variables-0-value", "theirs"), ("variables-0-name", "MINE")),
    "template_files": Edit(("config_files-0-owner", "theirs"), ("config_files-0-mode", "0600")),
    "project_health": Edit(("health_checks-0-target", "theirs"), ("health_checks-0-retries", "77")),
    "project_steps": Edit(("steps-0-script", "true # theirs"), ("steps-0-name", "what I typed")),
    "config_file": Edit(("owner", "theirs"), ("mode", "0600")),
    "server_edit": Edit(("host", "192.0.2.77"), ("name", "what-I-typed")),
    "group_edit": Edit(("description", "theirs"), ("name", "what I typed")),
    "credential_edit": Edit(("username", "theirs"), ("name", "what I typed")),
    "freeze_edit": Edit(("reason", "theirs"), ("ends_at", "17:45")),
    "rule_edit": Edit(("proof_hours", "9"), ("exempts_restarts", "on")),
    "command": Edit(("description", "theirs"), ("parameters-0-label", "what I typed")),
    "train_edit": Edit(("description", "theirs"), ("stops-0-branch", "what-I-typed")),
    "webhook_edit": Edit(("name", "theirs"), ("refs", "release/*")),
    "schedule": Edit(("name", "theirs"), ("cron", "5 4 * * *")),
    "channel_edit": Edit(("name", "theirs"), ("only_failures", "on")),
    "team_edit": Edit(("name", "theirs"), ("members", "{robot.pk}")),
    "account": Edit(("time_zone", "Europe/Berlin"), ("language", "zh-hans"), is_own=True),
}
ADMIN_EDITS = {
    "credential": Edit(("username", "theirs"), ("name", "what I typed")),
    "server": Edit(("host", "192.0.2.77"), ("name", "what-I-typed")),
    "group": Edit(("description", "theirs"), ("name", "what I typed")),
    "project": Edit(("deploy_path", "/srv/theirs"), ("description", "what I typed")),
    "set": Edit(("description", "theirs"), ("name", "what I typed")),
    "check": Edit(("health_checks-0-target", "theirs"), ("health_checks-0-retries", "77")),
    "service": Edit(("services-0-name", "theirs"), ("services-0-position", "77")),
    "step": Edit(("steps-0-script", "true # theirs"), ("steps-0-name", "what I typed")),
    "variable": Edit(("variables-0-value", "theirs"), ("variables-0-name", "MINE")),
    "command": Edit(("description", "theirs"), ("name", "what I typed")),
    "person": Edit(("first_name", "theirs"), ("last_name", "what I typed")),
    "token": Edit(("name", "theirs"), ("name", "what I typed")),
}
#: Django's own page, of groups that give nobody a right.
NOT_COMPARED = {"auth.group"}


def browser(name: str) -> Client:
    """The browser of a superuser of this name."""
    client = Client()
    client.force_login(User.objects.filter(username=name).first() or make_user(name))
    return client


def drawn(client: Client, address: str) -> Sent:
    """What the form on a page sends, untouched."""
    page = client.get(address)
    assert page.status_code == 200
    return values_of(page.content.decode(), BOX)


def typed_in(sent: Sent) -> Sent:
    """All but the boxes that are of nobody's concern."""
    return {name: value for name, value in sent.items() if not name.endswith((BOX, "csrfmiddlewaretoken"))}


def admin_row(world: World, name: str) -> Any:
    return getattr(world, dict.fromkeys(("check", "service", "step", "variable"), "project").get(name, name))


def admin_page(world: World, name: str) -> str:
    row = admin_row(world, name)
    return reverse(f"admin:{row._meta.label_lower.replace('.', '_')}_change", args=[row.pk])


@pytest.fixture
def world() -> Any:
    world: Any = World()
    world.token = ApiToken.objects.filter(user=world.person)[0]
    return world


def test_every_page_with_a_form_of_a_stored_row_is_listed_and_compares_it(world: World) -> None:
    client, found = browser("ada"), set()
    for name in set(PAGES) - LEAD_ELSEWHERE:
        answer: Any = client.get(address_of(name, world))
        if answer.streaming:
            answer.getvalue()  # to its end: its place is free again
            continue
        contexts: Any = answer.context if isinstance(answer.context, ContextList) else filter(None, [answer.context])
        values = [value for context in contexts for value in context.flatten().values()]
        forms = [value for value in values if isinstance(value, ModelForm | BaseInlineFormSet)]
        if any(form.instance.pk is not None for form in forms):
            found.add(name)
            assert values_of(answer.content.decode(), BOX), name
    assert found == EDITS.keys()


def test_every_page_of_the_admin_that_changes_a_row_is_listed_and_compares_it(world: World) -> None:
    client = browser("ada")
    request = client.get("/admin/").wsgi_request
    pages = admin.site._registry.items()
    changed = {model._meta.label_lower for model, its in pages if its.has_change_permission(request)}
    assert changed - NOT_COMPARED == {admin_row(world, name)._meta.label_lower for name in ADMIN_EDITS}
    for name in ADMIN_EDITS:
        assert drawn(client, admin_page(world, name)), name


ALL_EDITS = [*EDITS, *(f"admin {name}" for name in ADMIN_EDITS)]


@pytest.mark.parametrize(
    "name", [name if number % 5 else on_each_database(name) for number, name in enumerate(ALL_EDITS)]
)
def test_the_second_of_two_saves_is_refused_with_what_the_first_changed_and_then_overwrites_knowingly(
    name: str, world: World
) -> None:
    short = name.removeprefix("admin ")
    edit = ADMIN_EDITS[short] if short != name else EDITS[name]
    address = admin_page(world, short) if short != name else address_of(name, world).rstrip("?")
    first = browser("ada")
    second = first if edit.is_own else browser("bea")
    theirs, mine = drawn(first, address), drawn(second, address)
    former = theirs[edit.theirs[0]]
    typed = edit.mine[1].format(**vars(world))
    theirs[edit.theirs[0]], mine[edit.mine[0]] = [edit.theirs[1]], [typed]
    assert first.post(address, theirs).status_code == 302

    page = second.post(address, mine)
    assert page.status_code == 200
    html = tight(page.content.decode())
    who = "You have changed this on another page" if edit.is_own else "ada has changed this since you opened the page"
    assert who in html
    assert f"<code>{edit.theirs[1]}</code> now" in html
    if edit.theirs[0] != "variables-0-value":  # the record does not say what it was: it is stored encrypted
        assert f"you were shown <code>{former[0]}</code>" in html or "you were shown an empty box" in html
    again = values_of(page.content.decode(), BOX)
    assert typed_in(again) == typed_in(mine)
    assert drawn(first, address)[edit.theirs[0]] == [edit.theirs[1]], "nothing was saved"

    assert second.post(address, again).status_code == 302
    now = drawn(second, address)
    assert now[edit.theirs[0]] == (former if edit.theirs[0] != edit.mine[0] else [edit.mine[1]])
    assert now[edit.mine[0]] == [typed]


def test_what_both_want_is_no_reason_to_refuse() -> None:
    project, ada, bea = make_project(), browser("ada"), browser("bea")
    address = reverse("project_edit", args=[project.pk])
    theirs, mine = drawn(ada, address), drawn(bea, address)
    for sent in (theirs, mine):
        sent["deploy_path"] = ["/srv/both"]
    mine["description"] = ["mine"]
    assert ada.post(address, theirs).status_code == 302
    assert bea.post(address, mine).status_code == 302
    project.refresh_from_db()
    assert (project.deploy_path, project.description) == ("/srv/both", "mine")


def test_what_the_machine_writes_refuses_no_form_and_is_not_taken_back() -> None:
    ada = browser("ada")
    for page in ("server_edit", "admin:servers_server_change"):
        server = make_server()
        address = reverse(page, args=[server.pk])
        sent = drawn(ada, address)
        sent["name"] = [f"{server.name}-x"]
        server.record_connection(facts={"kernel": "6.1"})
        server.pin_host_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==")
        assert ada.post(address, sent).status_code == 302
        server.refresh_from_db()
        assert (server.name, server.connection_status) == (sent["name"][0], "online")
        assert server.facts == {"kernel": "6.1"}
        assert server.host_key


def test_a_host_that_is_added_to_a_credential_meanwhile_stays_even_if_something_else_is_in_the_way() -> None:
    credential, ada, bea = make_credential(hosts="a.example.com"), browser("ada"), browser("bea")
    address = reverse("credential_edit", args=[credential.pk])
    first, second, third = drawn(ada, address), drawn(ada, address), drawn(bea, address)
    make_server(credential=credential, host="b.example.com")
    first["username"] = ["first"]
    assert ada.post(address, first).status_code == 302
    second["name"] = ["second"]
    page = ada.post(address, second)
    assert "User name" in tight(page.content.decode())
    assert ada.post(address, values_of(page.content.decode(), BOX)).status_code == 302
    credential.refresh_from_db()
    assert credential.name == "second"
    assert credential.hosts.split() == ["a.example.com", "b.example.com"]
    third["hosts"] = ["c.example.com"]
    assert "b.example.com" in bea.post(address, third).content.decode(), "typed by one, added to by another"


def test_somebody_who_comes_into_a_team_by_the_provider_meanwhile_stays_in_it() -> None:
    team, newcomer = Team.objects.create(name="web"), make_user(is_superuser=False)
    ada, address = browser("ada"), reverse("team_edit", args=[team.pk])
    sent = drawn(ada, address)
    team.members.add(newcomer)
    sent["name"] = ["ops"]
    assert ada.post(address, sent).status_code == 302
    team.refresh_from_db()
    assert (team.name, [*team.members.all()]) == ("ops", [newcomer])


def test_a_list_says_what_came_and_what_left() -> None:
    staying, leaving, coming = (make_server(name=name) for name in ("staying", "leaving", "coming"))
    group = make_group(staying, leaving)
    ada, bea, address = browser("ada"), browser("bea"), reverse("group_edit", args=[group.pk])
    theirs, mine = drawn(ada, address), drawn(bea, address)
    theirs["servers"] = [str(staying.pk), str(coming.pk)]
    assert ada.post(address, theirs).status_code == 302
    html = tight(bea.post(address, mine).content.decode())
    assert "<b>Servers</b> now has coming, and no longer leaving." in html
    assert {*group.servers.all()} == {staying, coming}


def test_a_secret_is_only_said_to_be_another_and_one_that_is_left_alone_stays_the_other_ones() -> None:
    credential, ada, bea = make_credential(password="first"), browser("ada"), browser("bea")
    address = reverse("credential_edit", args=[credential.pk])
    theirs, mine, renaming = drawn(ada, address), drawn(bea, address), drawn(bea, address)
    theirs["password"] = ["sk_theirs"]
    assert ada.post(address, theirs).status_code == 302
    mine["password"] = ["sk_mine"]
    html = tight(bea.post(address, mine).content.decode())
    assert "<b>Password</b> was changed." in html
    assert "sk_theirs" not in html
    assert "sk_mine" not in html
    assert "Enter secrets again" in html
    renaming["name"] = ["renamed"]
    assert bea.post(address, renaming).status_code == 302
    credential.refresh_from_db()
    assert (credential.name, credential.password) == ("renamed", "sk_theirs")


def test_a_variable_that_was_deleted_is_said_to_be_and_comes_back_only_if_that_is_sent_again() -> None:
    project, ada, bea = make_project(), browser("ada"), browser("bea")
    for name in ("FIRST", "SECOND", "THIRD"):
        project.variables.create(name=name, value="x")
    address = reverse("project_variables", args=[project.pk])
    theirs, mine = drawn(ada, address), drawn(bea, address)
    theirs["variables-0-DELETE"] = ["on"]
    assert ada.post(address, theirs).status_code == 302
    mine["variables-0-value"], mine["variables-2-value"] = ["typed"], ["third"]
    page = bea.post(address, mine)
    html = tight(page.content.decode())
    assert "ada has changed this" in html
    assert "<b>Variable FIRST</b> was deleted: saving adds it again." in html
    assert [*project.variables.values_list("name", "value")] == [("SECOND", "x"), ("THIRD", "x")]
    assert bea.post(address, values_of(page.content.decode(), BOX)).status_code == 302
    found = [(row.name, row.value) for row in project.variables.all()]
    assert found == [("FIRST", "typed"), ("SECOND", "x"), ("THIRD", "third")]


def test_two_who_delete_the_same_variable_are_in_nobodys_way() -> None:
    project, ada, bea = make_project(), browser("ada"), browser("bea")
    for name in ("FIRST", "SECOND"):
        project.variables.create(name=name, value="x")
    address = reverse("project_variables", args=[project.pk])
    theirs, mine = drawn(ada, address), drawn(bea, address)
    theirs["variables-0-DELETE"] = mine["variables-0-DELETE"] = ["on"]
    mine["variables-1-value"] = ["mine"]
    assert ada.post(address, theirs).status_code == 302
    assert bea.post(address, mine).status_code == 302
    assert [(row.name, row.value) for row in project.variables.all()] == [("SECOND", "mine")]


def test_the_deletion_of_a_row_that_another_one_has_changed_is_refused_first() -> None:
    project, ada, bea = make_project(), browser("ada"), browser("bea")
    check = project.health_checks.create(kind="tcp", target="80")
    address = reverse("project_health", args=[project.pk])
    theirs, mine = drawn(ada, address), drawn(bea, address)
    theirs["health_checks-0-target"] = ["8080"]
    assert ada.post(address, theirs).status_code == 302
    mine["health_checks-0-DELETE"] = ["on"]
    page = bea.post(address, mine)
    assert "<code>8080</code> now; you were shown <code>80</code>" in tight(page.content.decode())
    assert project.health_checks.get() == check
    assert bea.post(address, values_of(page.content.decode(), BOX)).status_code == 302
    assert not project.health_checks.exists()


@pytest.mark.parametrize("address", ["project_edit", "admin:projects_project_change"])
def test_a_row_that_was_deleted_meanwhile_is_said_to_be_with_what_was_typed(address: str) -> None:
    project, ada = make_project(name="Shop"), make_user("ada")
    bea, url = browser("bea"), reverse(address, args=[project.pk])
    sent = drawn(bea, url)
    sent["description"] = ["what I typed"]
    with of_process(Actor.of_command(ada)):
        delete(project)
    page = bea.post(url, sent)
    assert page.status_code == 404
    html = tight(page.content.decode())
    assert "Project Shop was deleted by ada (" in html
    assert "while you had its form open. Nothing was saved." in html
    assert "what I typed" in html
    assert not Project.objects.exists()
    assert "deleted" not in bea.get(url).content.decode()


def test_no_secret_is_shown_of_a_form_whose_row_is_gone() -> None:
    credential, bea = make_credential(), browser("bea")
    url = reverse("credential_edit", args=[credential.pk])
    sent = drawn(bea, url)
    sent["password"], sent["username"] = ["sk_typed"], ["typed-name"]
    delete(credential)
    html = bea.post(url, sent).content.decode()
    assert "typed-name" in html
    assert "sk_typed" not in html


def test_a_token_that_is_forged_or_of_another_row_refuses_and_one_that_is_missing_does_not() -> None:
    project, other, ada = make_project(), make_project(), browser("ada")
    address = reverse("project_edit", args=[project.pk])
    sent = drawn(ada, address)
    for token in ("forged", str(Token(key_of(other), digests(other, state(other)), {}))):
        html = ada.post(address, sent | {BOX: [token], "description": ["x"]}).content.decode()
        assert "This page is older than what is stored." in html
    assert ada.post(address, {key: value for key, value in sent.items() if key != BOX}).status_code == 302


def test_the_token_says_nothing_of_a_value_and_something_else_for_each_row() -> None:
    one, other = (make_credential(password="hunter2-hunter2") for _ in range(2))
    tokens = [digests(row, state(row)) for row in (one, other)]
    assert not [name for name in ("password", "username") if tokens[0][name] == tokens[1][name]]
    text = str(Token(key_of(one), tokens[0], {}))
    assert "hunter2" not in text
    assert Token.read(text) == Token(key_of(one), tokens[0], {})
    assert Token.read(text[:-1] + ("A" if text[-1] != "A" else "B")) is None


def test_looking_at_other_rows_to_pick_does_not_make_a_page_newer_than_it_is() -> None:
    group = make_group(*(make_server() for _ in range(60)))
    ada, bea, address = browser("ada"), browser("bea"), reverse("group_edit", args=[group.pk])
    theirs, mine = drawn(ada, address), drawn(bea, address)
    theirs["description"] = ["theirs"]
    assert ada.post(address, theirs).status_code == 302
    looked = values_of(bea.post(address, mine | {"servers-page": ["2"]}).content.decode(), BOX)
    assert looked[BOX] == mine[BOX]
    assert "you were shown an empty box" in tight(bea.post(address, looked).content.decode())


def test_a_mistake_in_a_box_does_not_make_a_page_newer_than_it_is() -> None:
    project, ada, bea = make_project(), browser("ada"), browser("bea")
    address = reverse("project_edit", args=[project.pk])
    theirs, mine = drawn(ada, address), drawn(bea, address)
    theirs["deploy_path"] = ["/srv/theirs"]
    assert ada.post(address, theirs).status_code == 302
    wrong = bea.post(address, mine | {"name": [""]}).content.decode()
    again = values_of(wrong, BOX)
    assert again[BOX] == mine[BOX]
    assert "ada has changed this" in bea.post(address, again | {"name": ["mine"]}).content.decode()


def test_several_who_changed_it_are_each_named_beside_their_change() -> None:
    freeze = Freeze.objects.create(environment="staging", reason="x", weekdays="0", begins_at="00:00", ends_at="01:00")
    ada, bea, cleo = map(browser, ("ada", "bea", "cleo"))
    address = reverse("freeze_edit", args=[freeze.pk])
    mine = drawn(cleo, address)
    for client, box, text in ((ada, "reason", "migration"), (bea, "ends_at", "05:00")):
        assert client.post(address, drawn(client, address) | {box: [text]}).status_code == 302
    html = tight(cleo.post(address, mine).content.decode())
    assert "This was changed by others since you opened the page." in html
    assert "<b>Reason</b> is <code>migration</code> now; you were shown <code>x</code>" in html
    assert "ada, " in html
    assert "bea, " in html


def test_a_change_that_the_record_does_not_have_is_named_by_nobody() -> None:
    project, bea = make_project(description="former"), browser("bea")
    with saving(project):
        project.description = "recorded"
        project.save()
    address = reverse("project_edit", args=[project.pk])
    mine = drawn(bea, address)
    Project.objects.filter(pk=project.pk).update(description="by nobody")
    html = tight(bea.post(address, mine).content.decode())
    assert "This was changed by others since you opened the page." in html
    assert "<code>by nobody</code> now" in html


def test_a_long_text_is_shown_as_it_is_now() -> None:
    project, ada, bea = make_project(), browser("ada"), browser("bea")
    address = reverse("project_edit", args=[project.pk])
    theirs, mine = drawn(ada, address), drawn(bea, address)
    theirs["build_script"] = ["npm ci\nnpm run build"]
    assert ada.post(address, theirs).status_code == 302
    assert '<pre class="mono">npm ci\nnpm run build</pre>' in bea.post(address, mine).content.decode()


@pytest.mark.django_db(transaction=True)
def test_of_two_who_save_at_the_same_moment_one_is_refused() -> None:
    project = make_project()
    address = reverse("project_edit", args=[project.pk])
    people = [browser("ada"), browser("bea")]
    boxes = ("deploy_path", "/srv/ada"), ("output_dir", "bea")
    for _round in range(10):
        Project.objects.filter(pk=project.pk).update(deploy_path="/srv/shop", output_dir="")
        forms = [drawn(client, address) | {box: [text]} for client, (box, text) in zip(people, boxes, strict=True)]
        gate = threading.Barrier(2)

        def save(client: Client, sent: Sent, gate: threading.Barrier = gate) -> int:
            gate.wait()
            try:
                return client.post(address, sent).status_code
            finally:
                connections.close_all()

        with ThreadPoolExecutor(2) as threads:
            answers = [*threads.map(save, people, forms)]
        assert sorted(answers) == [200, 302]
        project.refresh_from_db()
        saved = [project.deploy_path == "/srv/ada", project.output_dir == "bea"]
        assert saved == [answer == 302 for answer in answers]


def test_a_new_password_takes_back_nothing_that_was_changed_since_the_page_began() -> None:
    ada, new = make_user("ada", "old password of ada"), "tigers eat grass"
    own = {"old_password": "old password of ada", "new_password1": new, "new_password2": new}
    by_another = {"usable_password": "true", "password1": new, "password2": new}
    for form in (PasswordForm(ada, own), PeopleAdmin.change_password_form(ada, by_another)):
        assert form.is_valid(), form.errors
        User.objects.filter(pk=ada.pk).update(is_active=False, email="new@example.com")
        form.save()
        ada = User.objects.get(pk=ada.pk)
        assert (ada.is_active, ada.email) == (False, "new@example.com")
        assert ada.check_password(new)
        User.objects.filter(pk=ada.pk).update(is_active=True, email="")


def test_a_secret_variable_is_shown_to_nobody_by_a_refusal() -> None:
    project, ada, bea = make_project(), browser("ada"), browser("bea")
    project.variables.create(name="KEY", value="sk_first", is_secret=True)
    address = reverse("project_variables", args=[project.pk])
    theirs, mine = drawn(ada, address), drawn(bea, address)
    theirs["variables-0-value"], mine["variables-0-value"] = ["sk_theirs"], ["sk_mine"]
    assert ada.post(address, theirs).status_code == 302
    html = tight(bea.post(address, mine).content.decode())
    assert "<b>Variable KEY: value</b> was changed." in html
    assert "sk_" not in html
