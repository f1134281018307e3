"""A project that is over: archived, restored, deleted; what becomes of its name, its rights and its history."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer import database
from deployer.archiving import removal
from deployer.archiving.archive import NameTakenError, StillAtWorkError, archive, restore
from deployer.archiving.removal import NotConfirmedError, remove
from deployer.board.overview import deployed
from deployer.board.sightings import refresh, refresh_old
from deployer.declaring.reading import DeclarationFile
from deployer.declaring.writing import apply
from deployer.gates.line import refusal_at_turn, take_turns
from deployer.launching.again import launch_rollback, retry_failed
from deployer.launching.asked import LaunchRequest
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, Hold, Lock, LogLine, Release, Sighting, Standing, Target
from people.models import ApiToken, Entry, Grant
from people.rights import NotAllowedError, may
from people.roles import Action
from projects.models import Project, Variable
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

SAID = "Project “shop” is archived: restore it first."


@pytest.fixture
def boss() -> Any:
    return make_user("boss")


@pytest.fixture
def client(boss: Any) -> Client:
    client = Client()
    client.force_login(boss)
    return client


@pytest.fixture
def shop() -> Project:
    return make_project(name="shop")


def ended(project: Project, status: str = "success") -> Deployment:
    """A deployment of the project that has ended, with what it left."""
    it = make_deployment(project, make_group(make_server()))
    it.claim_for_worker()
    for target in it.targets.all():
        target.started_at = target.begun_at = timezone.now()
        target.status, target.release_before, target.release_after = status, "v0", "v1"
        target.save()
    LogLine.objects.bulk_create(
        LogLine(deployment=it, number=number, content="x", timestamp=timezone.now()) for number in range(1, 6)
    )
    it.end(Deployment.Status.SUCCESS if status == "success" else Deployment.Status.FAILED)
    return it


def entries(act: str, kind: str = "project") -> list[Entry]:
    return [*Entry.objects.filter(act=act, kind=kind).order_by("pk")]


# --- the name, and who has a right to what ------------------------------------------------------------


def test_an_archived_project_frees_its_name_and_is_restored_under_it(shop: Project, boss: Any) -> None:
    archive(shop, boss, "Replaced")
    assert shop.is_archived
    assert shop.archiver == "boss"
    assert shop.archive_reason == "Replaced"
    restore(shop, boss)
    assert not shop.is_archived
    assert shop.name == "shop"
    assert not shop.archive_reason
    assert [entry.act for entry in Entry.objects.filter(kind="project").order_by("pk")] == ["archived", "restored"]
    assert entries("archived")[0].after["archive_reason"] == "Replaced"


def test_two_archived_projects_may_have_one_name_and_two_in_use_may_not(shop: Project, boss: Any) -> None:
    archive(shop, boss)
    archive(make_project(name="shop"), boss)
    make_project(name="shop")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_project(name="shop")
    assert Project.objects.archived().filter(name="shop").count() == 2


def test_a_group_that_has_moved_meanwhile_loses_the_project_that_is_restored(shop: Project, boss: Any) -> None:
    stays, moves = make_group(environment=shop.environment), make_group(environment=shop.environment)
    shop.server_groups.set([stays, moves])
    archive(shop, boss)
    moves.environment = "staging"
    moves.save()
    restore(shop, boss)
    assert [*shop.server_groups.all()] == [stays]
    assert Entry.objects.latest("id").before["server_groups"] == [f"{moves} (#{moves.pk})"]


def test_restoring_one_whose_name_is_taken_is_refused_and_done_under_another(
    shop: Project, boss: Any, client: Client
) -> None:
    archive(shop, boss)
    make_project(name="shop")
    with pytest.raises(NameTakenError, match="another project “shop”"):
        restore(shop, boss)
    page = client.get(reverse("project_restore", args=[shop.pk])).content.decode()
    assert 'value="shop-2"' in page
    assert "This one needs another name." in page
    refused = client.post(reverse("project_restore", args=[shop.pk]), {"name": "shop"}).content.decode()
    assert "There is another project “shop” by now" in refused
    client.post(reverse("project_restore", args=[shop.pk]), {"name": "shop-2"})
    shop.refresh_from_db()
    assert shop.name == "shop-2"
    assert not shop.is_archived


def test_a_form_keeps_names_of_projects_in_use_apart(client: Client, shop: Project, boss: Any) -> None:
    values = {"name": "shop", "environment": "development"}
    page = client.post(reverse("project_copy", args=[shop.pk]), values).content.decode()
    assert "already exists" in page
    archive(shop, boss)
    client.post(reverse("project_copy", args=[shop.pk]), values)
    copy = Project.objects.current().get(name="shop")
    assert copy.archived_at is None
    assert copy.pk != shop.pk


def test_rights_to_the_archived_project_do_not_reach_the_new_one_of_its_name(shop: Project, boss: Any) -> None:
    member = make_member("operator", project=shop.pk)
    token = ApiToken(name="ci", user=member, projects=[shop.pk])
    token.renew()
    token.save()
    archive(shop, boss)
    new = make_project(name="shop")
    assert may(member, Action.SEE, shop)
    assert not may(member, Action.SEE, new)
    member.acting_token = token
    assert not may(member, Action.SEE, new)
    remove(shop, boss)
    assert not Grant.objects.filter(project=shop.pk).exists()
    assert not ApiToken.objects.exists()
    assert make_project().pk > max(shop.pk or 0, new.pk)


def test_a_token_for_several_projects_is_narrowed_and_never_widened(shop: Project, boss: Any) -> None:
    other = make_project()
    token = ApiToken(name="ci", user=boss, projects=[shop.pk, other.pk])
    token.renew()
    token.save()
    remove(shop, boss)
    token.refresh_from_db()
    assert token.projects == [other.pk]


@pytest.mark.parametrize("action", [archive, restore])
def test_only_maintainers_archive_and_restore(action: Callable[..., Any], shop: Project, boss: Any) -> None:
    if action is restore:
        archive(shop, boss)
    with pytest.raises(NotAllowedError):
        action(shop, make_member("operator"))
    action(shop, make_member("maintainer"))


# --- hidden -------------------------------------------------------------------------------------------


def test_it_is_hidden_from_lists_and_choices_and_its_history_can_be_read(
    client: Client, shop: Project, boss: Any
) -> None:
    it = ended(shop)
    archive(shop, boss)
    assert shop not in client.get(reverse("projects")).context["page"]
    assert shop in client.get(reverse("projects") + "?archived").context["page"]
    assert shop not in deployed(boss)
    assert "shop" not in client.get(reverse("project_names") + "?project=sh").content.decode()
    places = client.get(reverse("lock_add")).context["form"].fields["place"].choices
    assert f"project-{shop.pk}" not in str(places)
    person = client.get(reverse("user", args=[make_user().pk]))
    assert f":{shop.pk}" not in str(person.context["grant_form"].fields["place"].choices)
    for name, number in (("project", shop.pk), ("deployment", it.pk), ("deployment_log", it.pk), ("releases", shop.pk)):
        answer = client.get(reverse(name, args=[number]))
        assert answer.status_code == 200
        b"".join(answer)  # a log: read to its end, or it keeps its place among the few that are sent at once
    assert "archived" in client.get(reverse("deployments")).content.decode()
    assert str(it.pk) in client.get(f"{reverse('deployments')}?project={shop.pk}").content.decode()


def test_a_grant_that_exists_says_that_its_project_is_archived(client: Client, shop: Project, boss: Any) -> None:
    member = make_member("operator", project=shop.pk)
    archive(shop, boss)
    assert "for shop (archived)" in client.get(reverse("user", args=[member.pk])).content.decode()


def test_the_api_lists_it_only_where_asked_and_reads_it_by_number(boss: Any, shop: Project) -> None:
    row = ApiToken(name="ci", user=boss)
    api = Client(headers={"Authorization": f"Bearer {row.renew()}"})
    row.save()
    assert api.post(f"/api/v1/projects/{shop.pk}/archive?reason=over").json()["archived_at"]
    assert api.get("/api/v1/projects").json()["items"] == []
    assert [it["id"] for it in api.get("/api/v1/projects?archived=true").json()["items"]] == [shop.pk]
    assert api.get(f"/api/v1/projects/{shop.pk}").json()["archived_at"]
    again = api.post(f"/api/v1/projects/{shop.pk}/archive")
    assert again.status_code == 409
    assert again.json()["detail"] == SAID
    make_project(name="shop")
    taken = api.post(f"/api/v1/projects/{shop.pk}/restore")
    assert taken.status_code == 409
    assert taken.json()["field"] == "name"
    given = api.post(f"/api/v1/projects/{shop.pk}/restore?name=old")
    assert given.json()["name"] == "old"
    assert given.json()["archived_at"] is None
    ended(Project.objects.get(pk=shop.pk))
    assert api.delete(f"/api/v1/projects/{shop.pk}").json()["field"] == "name"
    assert api.delete(f"/api/v1/projects/{shop.pk}?name=old").status_code == 204
    assert not Project.objects.filter(pk=shop.pk).exists()


def test_a_file_that_declares_its_name_makes_a_new_project(
    client: Client, shop: Project, boss: Any, tmp_path: Path
) -> None:
    archive(shop, boss)
    apply([DeclarationFile("x", b"projects:\n  - name: shop\n    description: new\n", tmp_path)])
    shop.refresh_from_db()
    assert shop.description == ""
    assert Project.objects.current().get(name="shop").description == "new"
    assert client.get(reverse("project_yaml", args=[shop.pk])).status_code == 403


def test_its_servers_are_not_looked_at_any_more(shop: Project, boss: Any) -> None:
    ended(shop)
    archive(shop, boss)
    assert Standing.objects.filter(project=shop).exists()
    refresh_old()
    refresh(shop)
    assert not Sighting.objects.exists()


@pytest.mark.parametrize(
    "name", ["project_edit", "project_variables", "project_health", "project_services", "launch", "launch_changes"]
)
def test_pages_that_change_or_launch_it_say_that_it_is_archived(
    name: str, client: Client, shop: Project, boss: Any
) -> None:
    archive(shop, boss)
    answer = client.get(reverse(name, args=[shop.pk]))
    assert answer.status_code == 403
    assert SAID in answer.content.decode()
    assert reverse("project", args=[shop.pk]) in answer.content.decode()


# --- not launchable -----------------------------------------------------------------------------------


def test_it_is_not_launched_by_any_way(client: Client, shop: Project, boss: Any) -> None:
    failed = ended(shop, "failed")
    group = failed.server_groups.get()
    archive(shop, boss)
    Hold.objects.create(reason="no", made_by=boss)  # it comes after, and is not what is told
    failed.refresh_from_db()
    for ask in (
        lambda: launch(LaunchRequest(shop, [group], "restart_only", created_by=boss)),
        lambda: launch(LaunchRequest(shop, [group], "restart_only", created_by=boss, queue=True, override="I may")),
        lambda: retry_failed(failed, created_by=boss, trigger="web"),
        lambda: launch_rollback(failed, created_by=boss, trigger="web"),
        lambda: retry_failed(failed, created_by=None, trigger="cli", launched_for="root"),
    ):
        with pytest.raises(LaunchRefusedError, match="is archived"):
            ask()
    answer = client.post(reverse("launch", args=[shop.pk]), {"server_groups": [group.pk]})
    assert answer.status_code == 403
    assert SAID in answer.content.decode()
    with pytest.raises(CommandError, match="is archived"):
        call_command("deploy", "shop", "--group", group.name, "--type", "restart_only")
    row = ApiToken(name="ci", user=boss)
    api = Client(headers={"Authorization": f"Bearer {row.renew()}"})
    row.save()
    body = {"project_id": shop.pk, "server_group_ids": [group.pk], "deployment_type": "restart_only"}
    for path in ("deployments", "preflight"):
        answer = api.post(f"/api/v1/{path}", body, content_type="application/json")
        assert answer.status_code == 409
        assert answer.json()["detail"] == SAID
    assert Deployment.objects.count() == 1


def test_one_that_was_archived_while_it_was_launched_is_refused(shop: Project, boss: Any) -> None:
    group, stale = make_group(make_server()), Project.objects.get(pk=shop.pk)
    archive(shop, boss)
    with pytest.raises(LaunchRefusedError, match="is archived"):
        launch(LaunchRequest(stale, [group], "restart_only", created_by=boss))
    assert not Deployment.objects.exists()


def test_archiving_is_refused_while_a_deployment_is_at_work(client: Client, shop: Project, boss: Any) -> None:
    it = make_deployment(shop, make_group(make_server()))
    with pytest.raises(StillAtWorkError, match=f"#{it.pk}"):
        archive(shop, boss)
    page = client.post(reverse("project_archive", args=[shop.pk])).content.decode()
    assert "It cannot be archived yet." in page
    shop.refresh_from_db()
    assert not shop.is_archived


def test_what_stands_in_line_is_cancelled_and_told_before(client: Client, shop: Project, boss: Any) -> None:
    Hold.objects.create(reason="no", made_by=boss)
    group = make_group(make_server())
    waiting = launch(LaunchRequest(shop, [group], "restart_only", created_by=boss, queue=True))
    page = client.get(reverse("project_archive", args=[shop.pk])).content.decode()
    assert "1 deployment stands in line and is cancelled" in page
    assert f"#{waiting.pk}" in page
    client.post(reverse("project_archive", args=[shop.pk]), {"reason": "over"})
    waiting.refresh_from_db()
    assert (waiting.status, waiting.error_message) == ("cancelled", "The project was archived.")
    assert [entry.number for entry in entries("cancelled", "deployment")] == [waiting.pk]


def test_it_is_asked_again_at_the_turn(shop: Project, boss: Any) -> None:
    pending = make_deployment(shop, make_group(make_server()), created_by=boss)
    Project.objects.filter(pk=shop.pk).update(archived_at=timezone.now())
    pending = Deployment.objects.select_related("project").get(pk=pending.pk)
    assert refusal_at_turn(pending) == SAID
    Deployment.objects.filter(pk=pending.pk).update(status="queued")
    assert take_turns() == []
    pending.refresh_from_db()
    assert (pending.status, pending.error_message) == ("cancelled", SAID)


# --- deletion -----------------------------------------------------------------------------------------


def with_everything(shop: Project, boss: Any) -> list[str]:
    """Give it some of all that a project can have; the names of what is stored."""
    for _number in range(3):
        ended(shop)
    Variable.objects.create(project=shop, name="KEY", value="x", is_secret=True)
    Lock.objects.create(project=shop, reason="x", made_by=boss)
    Grant.objects.create(user=make_user(is_superuser=False), role="viewer", project=shop.pk)
    release = Release(project=shop, version="v1", size=1000)
    release.archive.save("v1.tar.zst", ContentFile(b"x"), save=False)
    release.manifest.save("v1.manifest.zst", ContentFile(b"x"), save=False)
    release.save()
    return [str(release.archive.name), str(release.manifest.name)]


def test_an_admin_who_types_its_name_deletes_it_with_everything(client: Client, shop: Project, boss: Any) -> None:
    stored = with_everything(shop, boss)
    other = ended(make_project())
    page = client.get(reverse("project_delete", args=[shop.pk])).content.decode()
    assert "15" in page
    assert "1000 bytes" in page.replace("\xa0", " ")
    assert "1 right" in page
    for typed in ("", "Shop", "shop "):
        page = client.post(reverse("project_delete", args=[shop.pk]), {"name": typed}).content.decode()
        assert "Type the name of the project" in page
    assert Deployment.objects.filter(project=shop).count() == 3
    number = shop.pk
    client.post(reverse("project_delete", args=[shop.pk]), {"name": "shop"})
    assert not Project.objects.filter(pk=number).exists()
    assert [*Deployment.objects.all()] == [other]
    assert LogLine.objects.count() == 5
    assert Target.objects.count() == 1
    assert Standing.objects.count() == 1
    assert not Release.objects.exists()
    assert not Lock.objects.exists()
    assert not Grant.objects.exists()
    assert not any(default_storage.exists(name) for name in stored)


def test_its_deletion_is_recorded_with_counts_however_long_its_history_is(shop: Project, boss: Any) -> None:
    with_everything(shop, boss)
    number = shop.pk
    remove(shop, boss, "shop")
    history, row = entries("deleted")
    assert history.before == {"deployments": 3, "log_lines": 15, "releases": 1}
    assert row.number == history.number == number
    assert row.before["name"] == "shop"
    assert not Entry.objects.filter(act="deleted", kind__in=["deployment", "target", "logline"]).exists()
    assert [entry.kind for entry in Entry.objects.filter(act="revoked")] == ["grant"]


def test_a_history_is_deleted_by_admins_and_a_project_without_one_by_maintainers(shop: Project) -> None:
    maintainer = make_member("maintainer")
    fresh = make_project()
    remove(fresh, maintainer)
    assert not Project.objects.filter(pk=fresh.pk or 0).exists()
    ended(shop)
    with pytest.raises(NotAllowedError):
        remove(shop, maintainer, "shop")
    admin = make_member("admin")
    with pytest.raises(NotConfirmedError):
        remove(shop, admin, "sho")
    remove(shop, admin, "shop")


def test_it_is_not_deleted_while_a_deployment_is_at_work(shop: Project, boss: Any) -> None:
    make_deployment(shop, make_group(make_server()))
    with pytest.raises(StillAtWorkError):
        remove(shop, boss, "shop")
    shop.refresh_from_db()
    assert not shop.is_archived


def test_a_deletion_that_is_cut_short_leaves_what_can_be_deleted_again(
    shop: Project, boss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_everything(shop, boss)
    monkeypatch.setattr(database, "AT_ONCE", 2)

    def power_cut(_project: Project) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(removal, "_delete_releases", power_cut)
        with pytest.raises(KeyboardInterrupt):
            remove(shop, boss, "shop")
    shop.refresh_from_db()
    assert shop.is_archived
    assert not LogLine.objects.exists()
    remove(shop, boss, "shop")
    assert not Project.objects.exists()


def test_a_release_that_another_project_deployed_too_stays_with_that(shop: Project, boss: Any) -> None:
    stored = with_everything(shop, boss)
    other = ended(make_project())
    release = Release.objects.get()
    Deployment.objects.filter(pk=other.pk).update(release=release)
    remove(shop, boss, "shop")
    release.refresh_from_db()
    assert release.project == other.project
    assert all(default_storage.exists(name) for name in stored)


def test_the_admin_leads_to_that_page_where_there_is_a_history(client: Client, shop: Project, boss: Any) -> None:
    ended(shop)
    address = reverse("admin:projects_project_delete", args=[shop.pk])
    assert client.post(address, {"post": "yes"})["Location"] == reverse("project_delete", args=[shop.pk])
    chosen = {"action": "delete_selected", "_selected_action": [shop.pk], "post": "yes"}
    client.post(reverse("admin:projects_project_changelist"), chosen)
    assert Project.objects.filter(pk=shop.pk).exists()
    archive(shop, boss)
    assert "shop" not in [str(it) for it in _listed(client, "")]
    assert "shop" in [str(it) for it in _listed(client, "?archived=yes")]
    page = client.get(reverse("admin:projects_project_change", args=[shop.pk])).content.decode()
    assert 'name="_save"' not in page
    assert reverse("project_restore", args=[shop.pk]) in page


def _listed(client: Client, query: str) -> Any:
    return client.get(reverse("admin:projects_project_changelist") + query).context["cl"].result_list


# --- the command line ---------------------------------------------------------------------------------


def test_the_command_archives_and_restores(shop: Project, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("archive", "shop", "--reason", "over")
    shop.refresh_from_db()
    assert shop.is_archived
    assert shop.archived_for
    assert shop.archive_reason == "over"
    for name in ("archive", "status"):
        with pytest.raises(CommandError, match="is archived"):
            call_command(name, "shop")
    make_project(name="shop")
    with pytest.raises(CommandError, match="another name"):
        call_command("archive", "shop", "--restore")
    call_command("archive", "shop", "--restore", "--name", "old")
    shop.refresh_from_db()
    assert shop.name == "old"
    assert not shop.is_archived
    assert "“old” is restored" in capsys.readouterr().out
    with pytest.raises(CommandError, match="not allowed"):
        call_command("archive", "old", "--as", make_member("operator").username)
