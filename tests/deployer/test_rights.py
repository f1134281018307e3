"""Rights where something is launched, changed or applied: asked when it is asked for, and again at the turn."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.launching.again import request_to_retry, request_to_roll_back
from deployer.launching.asked import LaunchRequest
from deployer.launching.choice import with_release
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, Release
from deployer.queue import jobs
from people.models import ApiToken, Grant, User
from people.rights import NotAllowedError
from projects.models import Project
from servers.models import Credential, ServerGroup
from tests.factories import (
    make_credential,
    make_deployment,
    make_group,
    make_member,
    make_project,
    make_server,
    make_user,
)
from tests.marks import rarely
from tests.security.matrix import HIDDEN, PAGES

pytestmark = pytest.mark.django_db


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), name="web", environment="staging")


@pytest.fixture
def shop(group: ServerGroup) -> Project:
    """A project in staging with a group of its own."""
    project = make_project(name="shop", environment="staging")
    project.server_groups.add(group)
    return project


def asked(user: User, project: Project, *groups: ServerGroup, **values: Any) -> LaunchRequest:
    return LaunchRequest(project, groups, "restart_only", created_by=user, **values)


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


# --- launches ----------------------------------------------------------------------------------------


def test_a_launch_needs_the_right_to_the_project_and_to_each_group(shop: Project, group: ServerGroup) -> None:
    other = make_group(make_server(), name="other", environment="staging")
    theirs = make_project(environment="staging")
    theirs.server_groups.add(other)
    Project.objects.filter(pk=shop.pk).update(may_launch_elsewhere=True)
    shop.refresh_from_db()
    of_the_project = make_member("operator", project=shop.pk)
    Grant.objects.create(user=of_the_project, role="operator", project=theirs.pk)
    everywhere_there = make_member("operator", "staging", username="olga")
    with pytest.raises(NotAllowedError) as refused:
        launch(asked(make_member("viewer", "staging"), shop, group))
    assert "olga" in refused.value.who
    # Both groups are theirs, each for a project of its own: that does not carry the one project to the other group.
    with pytest.raises(NotAllowedError):
        launch(asked(of_the_project, shop, group, other, elsewhere=True))
    assert not Deployment.objects.exists()
    assert launch(asked(of_the_project, shop, group)).request_cancel()
    assert launch(asked(everywhere_there, shop, group, other, elsewhere=True)).created_by == everywhere_there


def test_a_retry_and_a_rollback_act_with_the_rights_of_whoever_asks(shop: Project, group: ServerGroup) -> None:
    it = make_deployment(shop, group, created_by=make_user())
    it.request_cancel()
    viewer = make_member("viewer", "staging")
    for request_for in (request_to_retry, request_to_roll_back):
        with pytest.raises(NotAllowedError):
            request_for(it, created_by=viewer, trigger="web")
    operator = make_member("operator", "staging")
    again = launch(request_to_retry(it, created_by=operator, trigger="web"))
    assert again.created_by == operator


def test_a_right_that_has_ended_meanwhile_ends_the_deployment_and_nothing_is_touched(
    shop: Project, group: ServerGroup
) -> None:
    operator = make_member("operator", "staging", username="olga")
    it = launch(asked(operator, shop, group))
    operator.grants.all().delete()
    jobs.run_deployment(it.pk)
    it.refresh_from_db()
    assert (it.status, it.started_at) == ("failed", None)
    assert it.error_message.startswith("olga no longer has the right to launch this")
    assert it.targets.get().status == "skipped"
    assert it.log_lines.get().content == it.error_message


@pytest.mark.parametrize("end", ["deactivated", "deleted"])
def test_whoever_is_gone_at_the_turn_has_no_right_any_more(shop: Project, group: ServerGroup, end: str) -> None:
    user = make_user()
    it = launch(asked(user, shop, group))
    if end == "deleted":
        user.delete()
    else:
        User.objects.filter(pk=user.pk).update(is_active=False)
    jobs.run_deployment(it.pk)
    it.refresh_from_db()
    assert it.status == "failed"


def test_only_releases_of_projects_that_the_launcher_sees_are_theirs_to_deploy(
    shop: Project, group: ServerGroup
) -> None:
    hidden = make_project(environment="production", name="hidden")
    Release.objects.create(project=hidden, version="v7", archive="x", commit_hash="a" * 40)
    request = LaunchRequest(shop, [group], created_by=make_member("operator", "staging"))
    with pytest.raises(LaunchRefusedError) as refused:
        with_release(request, "v7")
    assert "hidden" not in refused.value.message
    seen = LaunchRequest(shop, [group], created_by=make_user())
    assert with_release(seen, "v7").release is not None


def test_what_is_seen_and_not_allowed_is_a_button_that_is_not_there(shop: Project, group: ServerGroup) -> None:
    it = make_deployment(shop, group)
    viewer, operator = browser(make_member("viewer", "staging")), browser(make_member("operator", "staging"))
    closed = [
        reverse("launch", args=[shop.pk]),
        *(reverse(f"deployment_{act}", args=[it.pk]) for act in ("cancel", "again")),
    ]
    pages = [reverse("home"), reverse("projects"), reverse("project", args=[shop.pk]), it.get_absolute_url()]
    shown = "".join(viewer.get(page).content.decode() for page in pages)
    assert not [address for address in closed if f'"{address}' in shown]
    assert f'"{closed[0]}' in operator.get(pages[2]).content.decode()
    assert f'"{closed[1]}' in operator.get(pages[3]).content.decode()
    it.request_cancel()
    assert f'"{closed[2]}' not in viewer.get(pages[3]).content.decode()
    assert f'"{closed[2]}' in operator.get(pages[3]).content.decode()


def test_lists_and_their_filters_offer_what_is_in_sight(shop: Project, group: ServerGroup) -> None:
    away = make_project(name="away-from-here")
    make_deployment(away, make_group(make_server(name="far-server")), created_by=make_user("far-user"))
    mine = make_deployment(shop, group, created_by=make_user("near-user"))
    client = browser(make_member("viewer", "staging"))
    for name in ("home", "activity", "overview", "projects", "deployments", "servers", "groups"):
        html = client.get(reverse(name)).content.decode()
        assert not [word for word in ("away-from-here", "far-server", "far-user") if word in html], name
    assert "near-user" in client.get(reverse("deployments")).content.decode()
    compared = client.get(reverse("deployment_compare"), {"with": [mine.pk, Deployment.objects.get(project=away).pk]})
    assert compared.status_code == 404


# --- projects ----------------------------------------------------------------------------------------


def test_a_project_is_moved_only_where_it_is_theirs_to_edit_then(shop: Project) -> None:
    client = browser(make_member("maintainer", "staging"))
    values = {"name": "shop", "environment": "production", "project_type": "other", "default_branch": "main"}
    answer = client.post(reverse("project_edit", args=[shop.pk]), values)
    assert "environment" in answer.context["form"].errors
    answer = client.post(reverse("project_copy", args=[shop.pk]), {"name": "twin", "environment": "production"})
    assert "environment" in answer.context["form"].errors
    shop.refresh_from_db()
    assert (shop.environment, Project.objects.count()) == ("staging", 1)


def test_a_credential_out_of_reach_is_neither_shown_nor_sent_to_a_new_host(shop: Project) -> None:
    key = make_credential(name="the key of all", purpose="git", hosts="git.example.com")
    Project.objects.filter(pk=shop.pk).update(git_credential=key)
    client = browser(make_member("maintainer", "staging"))
    for name in ("project", "project_yaml"):
        assert "the key of all" not in client.get(reverse(name, args=[shop.pk])).content.decode()
    address = reverse("project_edit", args=[shop.pk])
    form = client.get(address).context["form"]
    values = {name: value for name in form.fields if (value := form[name].value()) is not None and value is not False}
    moved = client.post(address, values | {"git_url": "https://attacker.example.org/shop.git"})
    assert "git_url" in moved.context["form"].errors
    # To another repository on the host that it is for already, it may go.
    assert client.post(address, values | {"git_url": "https://git.example.com/other.git"}).status_code == 302
    assert Credential.objects.get(pk=key.pk).hosts == "git.example.com"


# --- tokens ------------------------------------------------------------------------------------------


def test_a_refusal_of_the_api_names_who_may(shop: Project, group: ServerGroup) -> None:
    make_member("operator", "staging", username="olga")
    row = ApiToken(name="ci", user=make_user("boss"), role="viewer")
    token = row.renew()
    row.save()
    body = {"project_id": shop.pk, "server_group_ids": [group.pk]}
    headers = {"Authorization": f"Bearer {token}"}
    answer = Client().post("/api/v1/deployments", body, content_type="application/json", headers=headers)
    assert answer.status_code == 403
    assert answer.json() == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "You are not allowed to do this. These people may: olga.",
        "field": "",
        "blocking": None,
    }


# --- the command line ----------------------------------------------------------------------------------


def run(*words: str) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out, stderr=out)
    return out.getvalue()


def test_a_command_acts_for_somebody_and_records_who_called_it(shop: Project, group: ServerGroup, queue_server) -> None:
    make_member("operator", "staging", username="olga")
    make_member("viewer", "staging", username="vera")
    for user, why in (("vera", "not allowed to do this. These people may: olga"), ("nobody", "no active user")):
        with pytest.raises(CommandError, match=why) as refused:
            run("deploy", "shop", "--group", "web", "--as", user)
        assert refused.value.returncode == 2
    run("deploy", "shop", "--group", "web", "--as", "olga")
    it = Deployment.objects.get()
    assert it.created_by == User.objects.get(username="olga")
    assert it.launched_for
    with pytest.raises(CommandError, match="not allowed"):
        run("cancel", str(it.pk), "--as", "vera")
    run("cancel", str(it.pk), "--as", "olga")
    run("deploy", "shop", "--group", "web")
    second = Deployment.objects.first()
    assert second is not None
    assert (second.created_by, second.launched_by) == (None, it.launched_for)
    page = browser(make_user()).get(second.get_absolute_url()).content.decode()
    assert it.launched_for in page


def test_a_deployment_out_of_sight_is_not_there_for_whom_a_command_acts(shop: Project, group: ServerGroup) -> None:
    make_member("operator", "production", username="piet")
    it = make_deployment(shop, group)
    for command in ("cancel", "continue", "retry", "rollback"):
        with pytest.raises(CommandError, match="There is no deployment"):
            run(command, str(it.pk), "--as", "piet")
    with pytest.raises(CommandError, match="There is no project"):
        run("deploy", "shop", "--group", "web", "--as", "piet")


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """``file(text)`` is the path of a YAML file."""

    def written(text: str) -> str:
        path = tmp_path / "declared.yaml"
        path.write_text(text)
        return str(path)

    return written


def test_what_is_applied_for_somebody_needs_their_right_before_and_after(
    shop: Project, group: ServerGroup, file
) -> None:
    make_member("maintainer", "staging", username="mia")
    project = "projects:\n- name: {}\n  environment: {}\n  description: changed\n"
    run("apply", file(project.format("shop", "staging")), "--as", "mia")
    run("apply", file(project.format("new", "staging")), "--as", "mia")
    for name, environment in (("shop", "production"), ("elsewhere", "production")):
        with pytest.raises(CommandError, match=r"mia has no right to this project") as refused:
            run("apply", file(project.format(name, environment)), "--as", "mia")
        assert "Nothing was applied" in str(refused.value)
    shop.refresh_from_db()
    assert (shop.environment, shop.description) == ("staging", "changed")
    assert not Project.objects.filter(name="elsewhere").exists()


def test_no_server_comes_into_a_group_and_no_login_into_use_without_a_right_to_it(group: ServerGroup, file) -> None:
    make_member("maintainer", "staging", username="mia")
    make_group(make_server(name="far"), environment="production")
    make_credential(name="the key of all")
    login = make_credential(name="ours", environment="staging", hosts="web-2.example.com")
    taken = "groups:\n- name: web\n  environment: staging\n  servers: [web-1, far]\n"
    with pytest.raises(CommandError, match="mia has no right to this server, “far”"):
        run("apply", file(taken), "--as", "mia")
    server = "servers:\n- name: web-2\n  host: web-2.example.com\n  credential: {}\n"
    with pytest.raises(CommandError, match="no right to this credential, “the key of all”"):
        run("apply", file(server.format("the key of all") + taken.replace("far", "web-2")), "--as", "mia", "--bind")
    with pytest.raises(CommandError, match="no right to this server"):
        run("apply", file(server.format("ours")), "--as", "mia")  # in no group it stands everywhere
    assert [*group.servers.values_list("name", flat=True)] == ["web-1"]
    Credential.objects.filter(pk=group.servers.get().credential_id).update(environment="staging")
    run("apply", file(server.format("ours") + taken.replace("far", "web-2")), "--as", "mia")
    assert login.servers.get().name == "web-2"


@pytest.mark.parametrize(
    ("wanted", "near"), [("login", "key of all"), ("jump_host", "far away"), ("groups", "wide group")]
)
def test_a_file_that_is_applied_for_somebody_is_told_no_name_out_of_their_sight(
    group: ServerGroup, file, wanted: str, near: str
) -> None:
    make_member("maintainer", "staging", username="mia")
    make_credential(name="key of all")
    make_credential(name="ours", environment="staging")
    make_group(make_server(name="far away"), name="wide group", environment="production")
    text = {
        "login": "servers:\n- name: web-2\n  host: h\n  credential: key of al\n",
        "jump_host": "servers:\n- name: web-2\n  host: h\n  credential: ours\n  jump_host: far awa\n",
        "groups": "projects:\n- name: new\n  environment: production\n  server_groups: [wide grou]\n",
    }[wanted]
    with pytest.raises(CommandError) as refused:
        run("apply", file(text), "--as", "mia")
    assert "there is no" in str(refused.value)
    assert near not in str(refused.value)
    with pytest.raises(CommandError, match=f"Did you mean “{near}”"):
        run("apply", file(text))


def test_a_project_comes_into_no_group_and_leaves_none_without_a_right_to_it(
    shop: Project, group: ServerGroup, file
) -> None:
    make_member("maintainer", project=shop.pk, username="mia")
    make_group(name="other", environment="staging")
    declared = "projects:\n- name: shop\n  environment: staging\n  server_groups: {}\n"
    for named, strange in (("[web, other]", "other"), ("[]", "web"), ("[other]", "other")):
        with pytest.raises(CommandError, match=f"mia has no right to this server group, “{strange}”"):
            run("apply", file(declared.format(named)), "--as", "mia")
        assert [*shop.server_groups.all()] == [group]
    run("apply", file(declared.format("[web]")), "--as", "mia")
    make_member("maintainer", "staging", username="max")
    run("apply", file(declared.format("[other]")), "--as", "max")
    assert [it.name for it in shop.server_groups.all()] == ["other"]


@pytest.mark.parametrize(
    "role",
    [
        "viewer",
        "maintainer",
        rarely("operator"),
        rarely("admin"),
    ],
)
def test_a_server_of_two_places_tells_nobody_of_one_what_the_other_does_with_it(role: str, queue_server) -> None:
    server = make_server(credential=make_credential(environment="staging"))
    near = make_group(server, environment="staging")
    far = make_group(server, environment="production", name=f"far {HIDDEN}")
    ours, theirs = make_project(environment="staging"), make_project(name=f"shop {HIDDEN}")
    for project, group in ((ours, near), (theirs, far)):
        project.server_groups.add(group)
        it = make_deployment(project, group, deployment_type="restart_only")
        it.claim_for_worker()
        release = "r1" if group == near else HIDDEN
        it.targets.update(started_at=timezone.now(), begun_at=timezone.now(), release_after=release, error=release)
    browser = Client()
    browser.force_login(make_member(role, "staging", is_staff=True))
    rows = {"server": server.pk, "group": near.pk, "project": ours.pk, "running": ours.deployments.get().pk}
    for pattern, route in PAGES.items():
        path = pattern.replace("<int:pk>", str(rows.get(route.of, "<")))
        if route.get is not None and "<" not in path:
            answer = browser.get(f"/{path}", headers=dict(route.headers))
            content = answer.getvalue() if answer.streaming else answer.content
            assert HIDDEN.encode() not in content, path
    searched = f"text={HIDDEN}&project={HIDDEN}&q={HIDDEN}&term={HIDDEN}&app_label=projects&model_name=project"
    for path in ("servers/names/", "servers/groups/names/", "projects/names/", "admin/autocomplete/", "deployments/"):
        answer = browser.get(f"/{path}?{searched}&field_name=server_groups")
        assert f"far {HIDDEN}" not in answer.content.decode(), path
        assert f"shop {HIDDEN}" not in answer.content.decode(), path
