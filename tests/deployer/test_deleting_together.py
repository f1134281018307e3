"""Servers, groups and projects are deleted under all that hangs on them: nothing dangles, and each page answers."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.archiving.archive import archive
from deployer.archiving.removal import remove
from deployer.commanding.asked import CommandRequest
from deployer.commanding.launch import run_command
from deployer.launching.putting_back import put_back
from deployer.launching.rules import LaunchRefusedError
from deployer.models import (
    CommandTarget,
    ConfigState,
    Deployment,
    FailureQuestion,
    FollowedLine,
    Left,
    LogFollow,
    StepRun,
    Target,
)
from projects.models import ConfigFile, Step, Variable
from servers.models import Server
from tests.factories import make_deployment, make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

FAILURE: dict[str, object] = {"key": "k", "server": "web-1", "what": "", "moment": "", "error": "no", "proof": ""}
FAILURE |= {"evidence": "", "required": False, "again": True, "has_run": True}


class World:
    """A project with all of it on one server of a group, and what a deployment and a command have left."""

    def __init__(self) -> None:
        self.server, self.other = make_server(name="web-1"), make_server(name="web-2")
        self.group = make_group(self.server, self.other, name="web")
        self.project = make_project(name="shop", log_path="/var/log/shop.log")
        self.project.server_groups.set([self.group])
        Step.objects.create(project=self.project, name="drain", moment="before", script="true")
        self.file = ConfigFile.objects.create(project=self.project, path="/etc/shop.conf", content="x")
        ConfigFile.objects.create(project=self.project, path="/etc/shop.conf", content="y", server=self.server)
        ConfigFile.objects.create(project=self.project, path="/etc/group.conf", content="z", server_group=self.group)
        Variable.objects.create(project=self.project, name="A", value="1", server=self.server)
        Variable.objects.create(project=self.project, name="B", value="2", server_group=self.group)
        self.it = make_deployment(self.project, self.group)
        self.target = self.it.targets.get(server=self.server)
        run = StepRun(deployment=self.it, target=self.target, step="drain", moment="before", action="deploy", key="k")
        run.save()
        question = FailureQuestion(deployment=self.it, failures=[FAILURE | {"target": self.target.pk}], token="t")
        question.asked_at = question.until = timezone.now()
        question.save()
        Target.objects.filter(deployment=self.it).update(status="failed", begun_at=timezone.now(), release_after="r1")
        Target.objects.filter(pk=self.target.pk).update(kept_out="its step failed", started_at=timezone.now())
        Deployment.objects.filter(pk=self.it.pk).update(status="failed", finished_at=timezone.now())
        ConfigState.adopt(self.project.pk, self.server.pk, self.it.pk, [Left("", "/etc/shop.conf", "0" * 64, "")])
        follow = LogFollow.objects.create(project=self.project, server=self.server, kind="file", name="/var/log/shop")
        FollowedLine.objects.create(follow=follow, stream="stdout", content="hello", timestamp=timezone.now())
        asked = CommandRequest(servers=[self.server], script="uptime", confirmed=True, created_by=make_user())
        self.run = run_command(asked)

    @property
    def pages(self) -> list[str]:
        name, project, it = reverse, self.project.pk, self.it.pk
        found = [
            name("deployment", args=[it]),
            name("deployment_answer", args=[it]),
            name("deployment_retry", args=[it]),
        ]
        found += [f"{name('deployment', args=[it])}drained/", name("deployment_variables", args=[it])]
        found += [name("project_files", args=[project]), name("project_variables", args=[project])]
        found += [
            name("project", args=[project]),
            name("launch", args=[project]),
            name("project_history", args=[project]),
        ]
        found += [name("config_file", args=[self.file.pk]), name("commands"), name("command_run", args=[self.run.pk])]
        return [*found, "/", "/activity/", "/record/"]


@pytest.fixture
def browser() -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(make_user("ada"))
    return client


def strange(browser: Client, pages: list[str]) -> dict[str, int]:
    found = {page: browser.get(page, follow=True).status_code for page in pages}
    return {page: code for page, code in found.items() if code != 200}


def test_a_server_that_is_deleted_leaves_nothing_that_dangles(browser: Client) -> None:
    world = World()
    assert strange(browser, world.pages) == {}
    browser.post(reverse("server_delete", args=[world.server.pk]))
    assert not Server.objects.filter(pk=world.server.pk).exists()
    for model in (ConfigState, LogFollow, FollowedLine):
        assert not model.objects.exists()
    assert [(file.path, file.is_for_all) for file in world.project.config_files.all()] == [
        ("/etc/group.conf", False),
        ("/etc/shop.conf", True),
    ]
    assert StepRun.objects.count() == FailureQuestion.objects.count() == CommandTarget.objects.count() == 1
    assert strange(browser, world.pages) == {}
    with pytest.raises(LaunchRefusedError, match="web-1 was deleted"):
        put_back(Target.objects.get(pk=world.target.pk), created_by=make_user(), trigger="web")
    address = f"{world.it.get_absolute_url()}drained/"
    browser.post(address, {"target": world.target.pk, "leave": ""})
    assert not Target.objects.exclude(kept_out="").exists()


def test_a_group_that_is_deleted_takes_its_files_and_values_along(browser: Client) -> None:
    world = World()
    browser.post(reverse("group_delete", args=[world.group.pk]))
    assert not world.project.config_files.filter(path="/etc/group.conf").exists()
    assert strange(browser, world.pages) == {}


def test_an_archived_and_a_deleted_project_take_all_of_it_along(browser: Client) -> None:
    world = World()
    archive(world.project, make_user())
    kept = [page for page in world.pages if "/launch" not in page]
    codes = {page: browser.get(page, follow=True).status_code for page in kept}
    assert {page: code for page, code in codes.items() if code >= 500} == {}
    remove(world.project, make_user(), "shop")
    left = (ConfigFile, ConfigState, StepRun, FailureQuestion, LogFollow, FollowedLine, Variable, Step, Deployment)
    assert {model.__name__: model.objects.count() for model in left if model.objects.exists()} == {}
    assert browser.get(reverse("command_run", args=[world.run.pk])).status_code == 200
