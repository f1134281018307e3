"""The page of a project's triggers: what is held, who may hold and lift, what launches by itself and when."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from deployer.models import Deployment, TriggerHold
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


def page_of(user: Any, project: Project) -> str:
    return browser_of(user).get(reverse("project_triggers", args=[project.pk])).content.decode()


def test_an_operator_holds_with_a_reason_and_lifts_and_what_waited_has_its_turn(
    project: Project, group: ServerGroup
) -> None:
    browser = browser_of(make_member("operator", "production", username="grace"))
    hold, lift = (reverse(f"project_triggers_{name}", args=[project.pk]) for name in ("hold", "lift"))
    assert browser.post(hold, {"reason": " "}).status_code == 302
    assert not TriggerHold.objects.exists()
    assert browser.post(hold, {"reason": "<b>the database moves</b>"}).status_code == 302
    waits = make_deployment(
        project, group, deployment_type="restart_only", trigger="webhook", created_by=make_user(), queue=True
    )
    assert waits.status == "queued"
    html = page_of(make_user(), project)
    assert "&lt;b&gt;the database moves" in html
    assert "<b>the" not in html
    assert lift in html
    assert browser.post(lift).status_code == 302
    assert Deployment.objects.get().status == "pending"
    assert "grace has lifted a hold" in page_of(make_user(), project)


def test_a_viewer_sees_the_hold_and_changes_nothing(project: Project) -> None:
    TriggerHold.objects.begin(project, "rolled back")
    html = page_of(make_member("viewer", "production"), project)
    assert "rolled back" in html
    assert reverse("project_triggers_lift", args=[project.pk]) not in html
    assert "rolled back" in browser_of(make_user()).get(reverse("project", args=[project.pk])).content.decode()
