"""The pages of users and teams: what is granted, taken, deactivated, and what nobody may do there."""

import json
import re
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.test import Client
from django.urls import reverse

from people.accounts import deactivate
from people.admins import admins
from people.entries import Act, Entry
from people.granting import take
from people.models import ApiToken, Grant, PasswordLink, Session, Team, User
from people.refusals import RefusedError
from people.rights import may
from people.roles import EVERYWHERE, Action, Place
from tests.factories import make_member, make_project, make_user

pytestmark = pytest.mark.django_db


def somebody(role: str = "", environment: str = "", project: int | None = None, **values: Any) -> User:
    user: User = make_user(is_superuser=False, **values)
    if role:
        Grant.objects.create(user=user, role=role, environment=environment, project=project)
    return user


def seen_by(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def post(client: Client, name: str, /, *args: Any, **form: Any) -> str:
    """The page that follows."""
    return client.post(reverse(name, args=args), form, follow=True).content.decode()


def token_of(user: User, **values: Any) -> str:
    row = ApiToken(**{"name": "ci", "user": user} | values)
    secret = row.renew()
    row.save()
    return secret


ABOUT_SOMEBODY = ["user", "user_deactivate"]
SENT_TO = ["user_link", "user_grant", "user_reactivate", "user_sessions_end", "user_deactivate"]


@pytest.mark.parametrize("role", ["", "viewer", "operator", "maintainer"])
def test_who_administers_nothing_sees_no_page_of_people_and_no_way_there(role: str) -> None:
    client, other, team = seen_by(somebody(role, is_staff=True)), somebody(), Team.objects.create(name="web")
    for name in ("people", "teams", "user_invite", "service_add", "team_add"):
        assert client.get(reverse(name)).status_code == 403
    for name in ABOUT_SOMEBODY:
        assert client.get(reverse(name, args=[other.pk])).status_code == 403
    for name in SENT_TO:
        assert client.post(reverse(name, args=[other.pk])).status_code == 403
    for name in ("team_grant", "team_edit", "team_delete"):
        assert client.post(reverse(name, args=[team.pk])).status_code == 403
    assert f'href="{reverse("people")}"' not in client.get(reverse("home")).content.decode()


def test_the_list_finds_people_and_says_what_they_are() -> None:
    boss, web = make_user("boss"), Team.objects.create(name="web")
    Grant.objects.create(team=web, role="operator", environment="production")
    anna = somebody("viewer", username="anna", email="anna@example.com")
    web.members.add(anna)
    somebody(username="gone", is_active=False)
    make_user("ci-runner", is_superuser=False, is_service=True)
    client = seen_by(boss)
    page = client.get(reverse("people")).content.decode()
    assert "Operator in Production · Viewer everywhere" in page
    assert "Superuser" in page
    assert f'href="{reverse("people")}"' in client.get(reverse("home")).content.decode()

    def names(query: str) -> list[str]:
        return [user.username for user in client.get(f"{reverse('people')}?{query}").context["page"]]

    assert names("text=example.com") == ["anna"]
    assert names("state=deactivated") == ["gone"]
    assert names("state=service") == ["ci-runner"]
    assert names("state=active") == ["anna", "boss"]
    assert names("state=nonsense") == ["anna", "boss", "ci-runner", "gone"]


def test_a_page_says_what_somebody_may_do_and_why() -> None:
    shop = make_project(name="shop")
    anna, web = somebody("maintainer", "staging"), Team.objects.create(name="web")
    web.members.add(anna)
    Grant.objects.create(team=web, role="operator", environment="production")
    Grant.objects.create(team=web, role="viewer", project=shop.pk)
    Grant.objects.create(user=anna, role="viewer", project=987)
    page = re.sub(r"<[^>]*>|\s+", " ", seen_by(make_user()).get(reverse("user", args=[anna.pk])).content.decode())
    page = re.sub(r" +", " ", page)
    assert "Maintainer in Staging Also edits" in page
    assert "Operator in Production by team web" in page
    assert "Viewer for shop by team web" in page
    assert "Viewer for a project that was deleted (987)" in page


def test_an_admin_gives_and_takes_roles_of_users_and_teams() -> None:
    client, anna, web = seen_by(somebody("admin")), somebody(), Team.objects.create(name="web")
    shop = make_project()
    post(client, "user_grant", anna.pk, role="operator", place="production:")
    assert may(anna, Action.OPERATE, Place("production"))
    post(client, "user_grant", anna.pk, role="viewer", place="production:")
    assert [grant.role for grant in anna.grants.all()] == ["viewer"], "one role in a place"
    post(client, "user_grant", anna.pk, role="operator", place="production:", may_run_commands="on")
    assert anna.grants.get().may_run_commands
    assert "Operator in Production, with commands" in client.get(reverse("user", args=[anna.pk])).content.decode()
    entry = Entry.objects.filter(kind="grant").first()
    assert entry is not None
    assert entry.after["may_run_commands"] is True
    post(client, "user_grant", anna.pk, role="operator", place="production:")
    assert not anna.grants.get().may_run_commands, "what is granted is there instead of what was"
    assert "A viewer runs no commands" in post(
        client, "user_grant", anna.pk, role="viewer", place="staging:", may_run_commands="on"
    )
    post(client, "user_grant", anna.pk, role="viewer", place="production:")
    post(client, "team_grant", web.pk, role="maintainer", place=f":{shop.pk}")
    assert web.grants.get().place == Place(project=shop.pk)
    post(client, "grant_take", web.grants.get().pk)
    post(client, "grant_take", anna.grants.get().pk)
    assert not Grant.objects.exclude(role="admin").exists()


@pytest.mark.parametrize("role", ["owner", "", "admin\n"])
def test_a_role_that_there_is_not_is_given_to_nobody(role: str) -> None:
    anna = somebody()
    assert "Choose a role" in post(seen_by(make_user()), "user_grant", anna.pk, role=role, place=":")
    assert not anna.grants.exists()


@pytest.mark.parametrize("place", [":", "production:", ":{elsewhere}", "staging:{elsewhere}", "nowhere:", "x", ":99"])
def test_who_administers_a_place_gives_rights_nowhere_else(place: str) -> None:
    elsewhere = make_project(environment="production")
    actor, anna, web = somebody("admin", "staging"), somebody(), Team.objects.create(name="web")
    wide = Grant.objects.create(user=anna, role="viewer")
    client, chosen = seen_by(actor), place.format(elsewhere=elsewhere.pk)
    assert "a place that you administer" in post(client, "user_grant", anna.pk, role="viewer", place=chosen)
    assert "a place that you administer" in post(client, "team_grant", web.pk, role="viewer", place=chosen)
    assert client.post(reverse("grant_take", args=[wide.pk])).status_code == 403
    assert [*Grant.objects.exclude(user=actor)] == [wide]


def test_who_administers_a_place_gives_rights_there_and_touches_no_account() -> None:
    here = make_project(environment="staging")
    client, anna, team = seen_by(somebody("admin", "staging")), somebody(), Team.objects.create(name="web")
    post(client, "user_grant", anna.pk, role="admin", place="staging:")
    post(client, "user_grant", anna.pk, role="viewer", place=f"staging:{here.pk}")
    assert anna.grants.count() == 2
    token_of(anna)
    page = client.get(reverse("user", args=[anna.pk])).content.decode()
    assert "API tokens" not in page
    assert "Deactivate" not in page
    for name in ("user_deactivate", "user_reactivate", "user_link", "user_sessions_end"):
        assert client.post(reverse(name, args=[anna.pk])).status_code == 403
    assert client.post(reverse("user_token_revoke", args=[anna.pk, anna.api_tokens.get().pk])).status_code == 403
    for name, args in [("user_invite", []), ("service_add", []), ("team_add", []), ("team_edit", [team.pk])]:
        assert client.post(reverse(name, args=args), {"name": "x", "username": "x"}).status_code == 403
    assert client.post(reverse("team_delete", args=[team.pk])).status_code == 403
    anna.refresh_from_db()
    assert anna.is_active
    assert anna.api_tokens.exists()


@pytest.mark.parametrize("environment", ["", "staging"])
def test_nobody_changes_their_own_rights(environment: str) -> None:
    actor = somebody("admin", environment)
    make_user()
    client, own = seen_by(actor), actor.grants.get()
    page = post(client, "user_grant", actor.pk, role="admin", place=f"{environment}:")
    assert "Nobody changes their own rights" in page
    assert "Nobody changes their own rights" in post(client, "grant_take", own.pk)
    assert [*actor.grants.all()] == [own]


def test_only_a_superuser_changes_a_superuser() -> None:
    boss, other = make_user("boss"), make_user("other")
    client = seen_by(somebody("admin"))
    seen_by(boss)
    token_of(boss)
    for name in ("user_deactivate", "user_link", "user_sessions_end", "user_reactivate"):
        assert "Only a superuser" in post(client, name, boss.pk)
    assert "Only a superuser" in post(client, "user_grant", boss.pk, role="viewer", place=":")
    assert "Only a superuser" in post(client, "user_token_revoke", boss.pk, boss.api_tokens.get().pk)
    boss.refresh_from_db()
    assert boss.is_active
    assert boss.api_tokens.count() == boss.sessions.count() == 1
    assert not PasswordLink.objects.exists()
    post(seen_by(other), "user_deactivate", boss.pk)
    boss.refresh_from_db()
    assert not boss.is_active


def test_the_last_admin_stays_whatever_is_taken() -> None:
    web = Team.objects.create(name="web")
    grant = Grant.objects.create(team=web, role="admin")
    last, actor = somebody(), make_user()
    web.members.add(last)
    assert {*admins()} == {last, actor}
    User.objects.filter(pk=actor.pk).update(is_superuser=False)  # the actor still is one for this request
    with pytest.raises(RefusedError, match="make somebody else an admin first"):
        deactivate(actor, last)
    with pytest.raises(RefusedError, match="make somebody else an admin first"):
        take(actor, grant)
    User.objects.filter(pk=actor.pk).update(is_superuser=True)
    client = seen_by(actor)
    User.objects.filter(pk=actor.pk).update(is_superuser=False)
    own = Grant.objects.create(user=actor, role="admin")
    post(client, "team_delete", web.pk)
    assert not Team.objects.exists(), "another admin is there"
    assert [*admins()] == [actor]
    assert "Nobody deactivates their own account" in post(client, "user_deactivate", actor.pk)
    assert Grant.objects.filter(pk=own.pk).exists()


def test_a_team_that_makes_the_only_admins_keeps_one() -> None:
    web = Team.objects.create(name="web")
    Grant.objects.create(team=web, role="admin")
    anna, bob = somebody(username="anna"), somebody(username="bob", is_active=False)
    web.members.set([anna, bob])
    client = seen_by(anna)
    page = post(client, "team_edit", web.pk, name="renamed", members=[bob.pk])
    assert "make somebody else an admin first" in page
    assert "make somebody else an admin first" in post(client, "team_delete", web.pk)
    web.refresh_from_db()
    assert web.name == "web"
    assert {*web.members.all()} == {anna, bob}
    assert may(User.objects.get(pk=anna.pk), Action.ADMINISTER, EVERYWHERE)


def test_who_is_deactivated_is_out_at_once_and_may_come_back() -> None:
    boss, anna = seen_by(make_user()), somebody("viewer", username="anna")
    client, secret = seen_by(anna), token_of(anna, name="laptop")
    page = boss.get(reverse("user_deactivate", args=[anna.pk])).content.decode()
    assert "laptop" in page
    assert "1 session ends" in page
    assert ApiToken.find(secret) is not None
    post(boss, "user_deactivate", anna.pk)
    assert client.get(reverse("home")).status_code == 302
    assert ApiToken.find(secret) is None
    assert not Session.objects.filter(user=anna).exists()
    assert authenticate(username="anna", password="correct horse") is None
    post(boss, "user_reactivate", anna.pk)
    assert client.get(reverse("home")).status_code == 302, "the old session stays ended"
    assert ApiToken.find(secret) is not None
    post(boss, "user_deactivate", anna.pk, revoke_tokens="on")
    assert not anna.api_tokens.exists()


def test_a_service_account_has_tokens_and_never_signs_in() -> None:
    boss = seen_by(make_user())
    post(boss, "service_add", username="ci", role="operator", place="staging:")
    robot = User.objects.get(username="ci")
    assert robot.is_service
    assert not robot.has_usable_password()
    robot.set_password("correct horse")  # as the admin's page would
    robot.save()
    assert not Client().login(username="ci", password="correct horse")
    forced = seen_by(robot)
    assert forced.get(reverse("home")).status_code == 302
    assert "A service account has no password" in post(boss, "user_link", robot.pk)
    page = post(boss, "user_token_add", robot.pk, name="runner", role="operator", lasts="30")
    secret = re.search(r"dpl_[\w-]{43}", page)
    assert secret is not None
    found = ApiToken.find(secret[0])
    assert found is not None
    assert may(found.user, Action.OPERATE, Place("staging"))
    assert not may(found.user, Action.SEE, Place("production"))
    wider = boss.post(reverse("user_token_add", args=[robot.pk]), {"name": "x", "role": "admin", "lasts": "30"})
    assert "role" in wider.context["form"].errors
    assert boss.get(reverse("user_token_add", args=[somebody().pk])).status_code == 404


@pytest.mark.parametrize("name", ["an\x00na", "an\nna", "an na", "<b>", "an\u202ena", "", "x" * 151])
def test_names_that_would_lie_on_a_page_are_refused(name: str) -> None:
    boss = seen_by(make_user("boss"))
    assert "username" in boss.post(reverse("user_invite"), {"username": name}).context["form"].errors
    assert "username" in boss.post(reverse("service_add"), {"username": name}).context["form"].errors
    assert User.objects.count() == 1


@pytest.mark.parametrize("name", ["we\x00b", "we\nb", "", "x" * 101])
def test_a_team_has_a_name_of_one_line(name: str) -> None:
    boss = seen_by(make_user())
    assert "name" in boss.post(reverse("team_add"), {"name": name}).context["form"].errors
    assert not Team.objects.exists()


def test_members_that_there_are_not_are_refused() -> None:
    boss = seen_by(make_user())
    for member in ("99", "9" * 30, "x"):
        form = boss.post(reverse("team_add"), {"name": "web", "members": [member]}).context["form"]
        assert "members" in form.errors
    assert not Team.objects.exists()


# --- the record --------------------------------------------------------------------------------------


def entries() -> list[tuple[str, str, str]]:
    """Act, kind and name of each entry but those of logins, the oldest first."""
    rows = Entry.objects.exclude(act__in=[Act.SIGNED_IN, Act.SIGN_IN_FAILED]).order_by("pk")
    return [*rows.values_list("act", "kind", "name")]


def test_an_invitation_and_its_acceptance_are_recorded_without_link_and_password() -> None:
    boss, web = make_user("boss"), Team.objects.create(name="web")
    form = {"username": "anna", "email": "anna@example.com", "role": "operator", "place": "production:"}
    page = post(seen_by(boss), "user_invite", **form, teams=[web.pk])
    assert entries() == [
        ("created", "user", "anna"),
        ("changed", "team", "web"),
        ("granted", "grant", "anna: Operator"),
        ("changed", "user", "anna"),
    ]
    assert {*Entry.objects.exclude(act=Act.SIGNED_IN).values_list("user_name", flat=True)} == {"boss"}
    assert Entry.objects.get(act=Act.GRANTED).environments == ",production,"
    secret = re.findall(r"/join/([\w-]{20,})/", page)[0]
    Client().post(reverse("join", args=[secret]), {"new_password1": "a-Long-word-7", "new_password2": "a-Long-word-7"})
    it = Entry.objects.order_by("pk").last()
    assert it is not None
    assert (it.user_name, it.act, it.name, it.after["is_active"]) == ("anna", "changed", "anna", True)
    assert "password" in it.after
    told = json.dumps([row.as_json() for row in Entry.objects.all()])
    assert secret not in told
    assert "a-Long-word-7" not in told
    assert User.objects.get(username="anna").password not in told


def test_rights_given_changed_and_taken_are_recorded_where_they_hold() -> None:
    boss, anna, shop = make_user("boss"), somebody(username="anna"), make_project(name="shop", environment="staging")
    client = seen_by(boss)
    for role in ("viewer", "viewer", "operator"):
        post(client, "user_grant", anna.pk, role=role, place=f":{shop.pk}")
    post(client, "grant_take", Grant.objects.get().pk)
    assert entries() == [
        ("granted", "grant", "anna: Viewer"),
        ("changed", "grant", "anna: Operator"),
        ("revoked", "grant", "anna: Operator"),
    ]
    changed = Entry.objects.get(act=Act.CHANGED)
    assert (changed.before, changed.after) == ({"role": "viewer"}, {"role": "operator"})
    assert {*Entry.objects.exclude(act=Act.SIGNED_IN).values_list("project", flat=True)} == {shop.pk}


def test_what_was_refused_is_not_recorded() -> None:
    boss = somebody("admin", username="boss")
    client = seen_by(boss)
    grant = Grant.objects.get()
    post(client, "grant_take", grant.pk)
    post(client, "user_grant", boss.pk, role="viewer", place=":")
    post(client, "user_deactivate", boss.pk)
    assert not entries()


def test_teams_and_accounts_that_change_are_recorded() -> None:
    client, anna = seen_by(make_user("boss")), somebody(username="anna")
    token_of(anna)
    post(client, "team_add", name="web", members=[anna.pk])
    web = Team.objects.get()
    post(client, "team_edit", web.pk, name="web")
    post(client, "team_delete", web.pk)
    post(client, "user_sessions_end", anna.pk)
    post(client, "user_deactivate", anna.pk, revoke_tokens="on")
    post(client, "user_reactivate", anna.pk)
    assert [(act, kind) for act, kind, _name in entries()] == [
        ("created", "team"),
        ("changed", "team"),
        ("changed", "team"),
        ("deleted", "team"),
        ("signed_out", "user"),
        ("token_revoked", "apitoken"),
        ("changed", "user"),
        ("changed", "user"),
    ]
    left = Entry.objects.filter(kind="team", act=Act.CHANGED).order_by("-pk")[0]
    assert left.before == {"members": [f"anna (#{anna.pk})"]}


def test_tokens_of_a_service_are_recorded_without_their_secret() -> None:
    client = seen_by(make_user("boss"))
    post(client, "service_add", username="ci-runner", role="viewer", place=":")
    robot = User.objects.get(username="ci-runner")
    page = post(client, "user_token_add", robot.pk, name="ci", role="viewer", lasts="90")
    secret = re.findall(r"dpl_[\w-]{20,}", page)[0]
    post(client, "user_token_revoke", robot.pk, robot.api_tokens.get().pk)
    assert [(act, kind) for act, kind, _name in entries()] == [
        ("created", "user"),
        ("granted", "grant"),
        ("token_made", "apitoken"),
        ("token_revoked", "apitoken"),
    ]
    assert secret not in json.dumps([row.as_json() for row in Entry.objects.all()])


@pytest.mark.parametrize(("page", "box"), [("team_add", "members"), ("user_invite", "teams"), ("service_add", "teams")])
def test_many_people_and_teams_are_searched_and_what_is_ticked_elsewhere_stays(page: str, box: str) -> None:
    client = Client()
    client.force_login(make_user("boss"))
    for number in range(60):
        make_user(f"ada-{number:02}", is_superuser=False, email=f"{number}@example.com")
        Team.objects.create(name=f"ada-{number:02}")
    kind: Any = User if box == "members" else Team
    last = kind.objects.get(**{"username" if kind is User else "name": "ada-59"})
    values = {"name": "ops", "username": "new", "email": "new@example.com"}
    first = client.get(reverse(page)).content.decode()
    assert "ada-40" in first
    assert "ada-59" not in first

    found = client.post(reverse(page), values | {f"{box}-text": "ada-59", f"{box}-shown": ""}).content.decode()
    assert f'value="{last.pk}"' in found
    assert "ada-40" not in found
    assert 'value="ops"' in found or 'value="new"' in found, "what was typed stays"
    assert not Team.objects.filter(name="ops").exists()
    sent = {f"{box}-kept": str(last.pk), f"{box}-text": "", f"{box}-shown": ""}
    client.post(reverse(page), values | sent)
    if box == "members":
        assert [*Team.objects.get(name="ops").members.all()] == [last]
    else:
        assert [*User.objects.get(username="new").teams.all()] == [last]


def test_who_administers_one_place_is_told_no_project_of_another(client: Client) -> None:
    far = make_project(name="far away", environment="staging")
    person, team = make_member("viewer", project=far.pk), Team.objects.create(name="theirs")
    Grant.objects.create(team=team, role="operator", environment="staging", project=far.pk)
    client.force_login(make_member("admin", "production"))
    pages = [
        reverse("people"),
        reverse("teams"),
        reverse("user", args=[person.pk]),
        reverse("team", args=[team.pk]),
    ]
    for page in pages:
        shown = client.get(page).content.decode()
        assert "far away" not in shown, page
        assert f"a project out of your sight ({far.pk})" in shown, page
    client.force_login(make_member("admin"))
    for page in pages:
        assert "far away" in client.get(page).content.decode(), page
