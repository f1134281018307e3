"""The page of gates, its forms and the commands: who may close and open what, and what is shown of it."""

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from deployer.models import Approval, Deployment, Freeze, GateRule, Hold, Lock, Release
from people.models import Team
from projects.models import Project
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_project(name="shop")


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), name="web")


def browser_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def waiting(project: Project, group: ServerGroup, **values: Any) -> Deployment:
    GateRule.objects.get_or_create(project=project, needs_approval=True)
    return make_deployment(project, group, deployment_type="restart_only", **values)


LOCK = {"reason": "the database moves"}
FREEZE = {"reason": "weekend", "is_open": "False", "begins_at": "00:00", "ends_at": "23:59", "time_zone": "Asia/Tokyo"}


def test_an_operator_locks_a_place_of_theirs_and_no_other(project: Project) -> None:
    operator = make_member("operator", project=project.pk)
    browser = browser_of(operator)
    assert browser.post(reverse("lock_add"), {"place": "environment-production"} | LOCK).status_code == 200
    assert not Lock.objects.exists()
    assert browser.post(reverse("lock_add"), {"place": f"project-{project.pk}"} | LOCK).status_code == 302
    lock = Lock.objects.get()
    assert (lock.project, lock.made_by, lock.environment) == (project, operator, "")
    assert b"the database moves" in browser.get(reverse("gates")).content


def test_a_viewer_sees_the_gates_and_changes_none(project: Project) -> None:
    lock = Lock.objects.create(project=project, reason="closed", made_by=make_user())
    browser = browser_of(make_member("viewer"))
    html = browser.get(reverse("gates")).content.decode()
    assert "closed" in html
    assert reverse("lock_lift", args=[lock.pk]) not in html
    for name in ("lock_add", "freeze_add", "rule_add", "hold"):
        assert browser.get(reverse(name)).status_code == 403, name
        assert f'href="{reverse(name)}"' not in html
    assert browser.post(reverse("lock_lift", args=[lock.pk])).status_code == 403
    assert browser.post(reverse("hold_lift")).status_code == 403


def test_whoever_does_not_see_a_place_sees_none_of_its_gates(project: Project) -> None:
    lock = Lock.objects.create(project=project, reason="secret reason", made_by=make_user())
    freeze = Freeze.objects.create(
        project=project, reason="secret too", weekdays="0", begins_at="00:00", ends_at="01:00"
    )
    rule = GateRule.objects.create(project=project, needs_approval=True)
    browser = browser_of(make_member("admin", "staging"))
    assert b"secret" not in browser.get(reverse("gates")).content
    assert browser.post(reverse("lock_lift", args=[lock.pk])).status_code == 404
    for name, pk in (("freeze_edit", freeze.pk), ("rule_edit", rule.pk)):
        assert browser.get(reverse(name, args=[pk])).status_code == 404
    for name, pk in (("freeze_delete", freeze.pk), ("rule_delete", rule.pk)):
        assert browser.post(reverse(name, args=[pk])).status_code == 404


def test_a_lock_is_lifted_by_its_maker_or_a_maintainer_and_its_maker_sees_by_whom(project: Project) -> None:
    ada = make_member("operator", username="ada")
    lock = Lock.objects.create(project=project, reason="mine", made_by=ada)
    assert browser_of(make_member("operator")).post(reverse("lock_lift", args=[lock.pk])).status_code == 403
    maintainer = make_member("maintainer", username="grace")
    assert browser_of(maintainer).post(reverse("lock_lift", args=[lock.pk])).status_code == 302
    assert not Lock.objects.closed().exists()
    assert "grace has unlocked shop" in browser_of(ada).get(reverse("gates")).content.decode()
    own = Lock.objects.create(project=project, reason="mine", made_by=ada)
    assert browser_of(ada).post(reverse("lock_lift", args=[own.pk])).status_code == 302


def test_a_maintainer_freezes_and_an_admin_alone_says_what_is_required(project: Project) -> None:
    browser = browser_of(make_member("maintainer", "production"))
    place = {"place": "environment-production"}
    assert browser.post(reverse("freeze_add"), place | FREEZE | {"weekdays": ["6", "5"]}).status_code == 302
    freeze = Freeze.objects.get()
    assert (freeze.weekdays, freeze.time_zone, freeze.is_open) == ("56", "Asia/Tokyo", False)
    form = browser.get(reverse("freeze_edit", args=[freeze.pk])).context["form"]
    assert form["place"].value() == "environment-production"
    assert form["weekdays"].value() == ["5", "6"]
    assert browser.post(reverse("freeze_add"), place | FREEZE).status_code == 200  # neither weekdays nor dates
    both = {"weekdays": ["1"], "first_day": "2026-12-24"}
    assert browser.post(reverse("freeze_add"), place | FREEZE | both).status_code == 200
    assert (
        browser.post(reverse("freeze_add"), place | FREEZE | {"weekdays": ["1"], "time_zone": "Mars"}).status_code
        == 200
    )
    assert Freeze.objects.count() == 1
    assert browser.post(reverse("rule_add"), place | {"needs_approval": "on"}).status_code == 403
    admin = browser_of(make_member("admin", "production"))
    assert admin.post(reverse("rule_add"), place | {"needs_approval": "on"}).status_code == 302
    again = admin.post(reverse("rule_add"), place | {"needs_approval": "on"})
    assert "required there already" in again.content.decode()
    assert admin.get(reverse("hold")).status_code == 403  # that is of everywhere


def test_a_lock_has_an_end_that_every_clock_can_show(project: Project) -> None:
    browser = browser_of(make_member("operator", project=project.pk, time_zone="Asia/Tokyo"))
    for until in ("0001-01-01T00:00", "9999-12-31T23:59"):
        values = {"place": f"project-{project.pk}", "until": until} | LOCK
        assert browser.post(reverse("lock_add"), values).status_code == 200
    assert not Lock.objects.exists()


def test_an_approver_without_a_role_owes_the_second_factor_too(
    project: Project, group: ServerGroup, settings: Any
) -> None:
    team = Team.objects.create(name="release managers")
    member = make_user("grace", is_superuser=False)
    member.teams.add(team)
    GateRule.objects.create(project=project, needs_approval=True).approvers.add(team)
    it = waiting(project, group)
    browser, address = browser_of(member), reverse("deployment_decide", args=[it.pk])
    settings.DEPLOYER_SECOND_FACTOR = "production"
    assert browser.get(address).headers["Location"] == reverse("mfa_index")
    assert browser.post(address, {"approve": "", "reason": "x"}).headers["Location"] == reverse("mfa_index")
    assert not Approval.objects.exists()
    data = {"name": "key", "credential": {}}
    Authenticator.objects.create(user=member, type=Authenticator.Type.WEBAUTHN, data=data)
    browser.force_login(member)
    browser.post(address, {"approve": "", "reason": "x"})
    assert Approval.objects.get().decided_by == member


def test_the_hold_is_of_those_who_are_admin_everywhere_and_everybody_sees_it() -> None:
    admin = browser_of(make_member("admin"))
    assert admin.post(reverse("hold"), {"reason": "an incident"}).status_code == 302
    viewer = browser_of(make_member("viewer", "staging"))
    assert b"an incident" in viewer.get(reverse("gates")).content
    assert admin.post(reverse("hold_lift")).status_code == 302
    assert not Hold.objects.exists()


def test_what_waits_for_somebody_is_on_their_first_page_and_in_their_navigation_alone(
    project: Project, group: ServerGroup
) -> None:
    ada = make_user("ada")
    it = waiting(project, group, created_by=ada)
    theirs = browser_of(make_user("grace")).get(reverse("home")).content.decode()
    assert reverse("deployment_decide", args=[it.pk]) in theirs
    assert "nav-count" in theirs
    own = browser_of(ada).get(reverse("home")).content.decode()
    assert reverse("deployment_decide", args=[it.pk]) not in own
    assert "nav-count" not in own
    assert "In line" in own


def test_a_decision_is_made_on_a_page_that_shows_the_proof(project: Project, group: ServerGroup) -> None:
    it = waiting(project, group)
    browser = browser_of(make_user("grace"))
    assert b"web-1" in browser.get(reverse("deployment_decide", args=[it.pk])).content
    browser.post(reverse("deployment_decide", args=[it.pk]), {"reject": "", "reason": ""})
    browser.post(reverse("deployment_decide", args=[it.pk]), {"reason": "neither of the two"})
    assert not Approval.objects.exists()
    browser.post(reverse("deployment_decide", args=[it.pk]), {"approve": "", "reason": ""})
    it.refresh_from_db()
    assert (it.status, Approval.objects.get().decision) == ("pending", "approved")


def test_an_admin_overrides_on_the_page_and_an_operator_is_refused(project: Project, group: ServerGroup) -> None:
    it = waiting(project, group)
    address = reverse("deployment_override", args=[it.pk])
    assert browser_of(make_member("operator")).post(address, {"reason": "x"}).status_code == 403
    assert browser_of(make_member("admin")).post(address, {"reason": "the shop is down"}).status_code == 302
    it.refresh_from_db()
    assert it.status == "pending"
    html = browser_of(make_member("viewer")).get(reverse("gates")).content.decode()
    assert "the shop is down" in html


def test_the_form_says_in_amber_what_is_closed_and_what_a_launch_will_wait_for(
    project: Project, group: ServerGroup
) -> None:
    Lock.objects.create(project=project, reason="the database moves", made_by=make_user())
    GateRule.objects.create(project=project, needs_approval=True)
    operator = browser_of(make_member("operator", "production"))
    html = operator.get(reverse("launch", args=[project.pk])).content.decode()
    assert "the database moves" in html
    assert "A second person has to approve it" in html
    assert 'name="queue"' in html
    assert 'name="override"' not in html
    asked = {"deployment_type": "restart_only", "server_groups": [group.pk], "confirm": "shop"}
    refused = operator.post(reverse("launch", args=[project.pk]), asked)
    assert "the database moves" in refused.content.decode()
    assert not Deployment.objects.exists()
    assert operator.post(reverse("launch", args=[project.pk]), asked | {"queue": "1"}).status_code == 302
    assert Deployment.objects.get().status == "queued"
    assert operator.post(reverse("launch", args=[project.pk]), asked | {"override": "x"}).status_code == 403


def test_a_release_is_marked_as_bad_by_operators_and_taken_back_by_maintainers(project: Project) -> None:
    release = Release.objects.create(project=project, version="v1", archive="x")
    address = reverse("release_mark", args=[project.pk, release.pk])
    assert browser_of(make_member("viewer")).post(address, {"reason": "x"}).status_code == 403
    operator = browser_of(make_member("operator"))
    operator.post(address, {"reason": "loses orders"})
    release.refresh_from_db()
    assert (release.is_marked_bad, release.bad_reason) == (True, "loses orders")
    assert b"loses orders" in operator.get(reverse("releases", args=[project.pk])).content
    assert operator.post(address, {"unmark": ""}).status_code == 403
    assert browser_of(make_member("maintainer")).post(address, {"unmark": ""}).status_code == 302
    release.refresh_from_db()
    assert not release.is_marked_bad


def test_the_commands_hold_lock_unlock_and_approve(project: Project, group: ServerGroup) -> None:
    make_user("grace")
    call_command("lock", "shop", reason="the database moves")
    assert Lock.objects.closed().get().made_for
    with pytest.raises(CommandError, match="no project"):
        call_command("unlock", "nothing")
    call_command("unlock", "shop")
    assert not Lock.objects.closed().exists()
    call_command("hold", "an incident")
    with pytest.raises(CommandError, match="already"):
        call_command("hold", "another")
    call_command("hold", "--lift")
    assert not Hold.objects.exists()
    it = waiting(project, group, created_by=make_user("ada"), trigger="web")
    with pytest.raises(CommandError, match="--as"):
        call_command("approve", str(it.pk))
    with pytest.raises(CommandError, match="Somebody else"):
        call_command("approve", str(it.pk), acting="ada")
    call_command("approve", str(it.pk), acting="grace")
    it.refresh_from_db()
    assert it.status == "pending"


def test_a_member_of_an_approving_team_reads_the_page_of_what_waits(project: Project, group: ServerGroup) -> None:
    team = Team.objects.create(name="release managers")
    member = make_user("grace", is_superuser=False)
    team.members.add(member)
    rule = GateRule.objects.create(project=project, needs_approval=True)
    rule.approvers.add(team)
    it = waiting(project, group)
    browser = browser_of(member)
    page = browser.get(reverse("deployment", args=[it.pk]))
    assert page.status_code == 200
    assert f'href="{reverse("project", args=[project.pk])}"' not in page.content.decode()
    assert browser.get(reverse("project", args=[project.pk])).status_code == 404
    assert browser.post(reverse("deployment_cancel", args=[it.pk])).status_code == 403
    browser.post(reverse("deployment_decide", args=[it.pk]), {"approve": "", "reason": "read it"})
    it.refresh_from_db()
    assert it.status == "pending"
