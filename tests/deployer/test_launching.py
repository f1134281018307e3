"""A launch is worked out once: what was accepted is what is written, asked about and shown."""

import pytest

from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.launch import launch
from deployer.launching.rules import Accepted, LaunchRefusedError, check_launch
from deployer.models import Deployment
from deployer.plan import Plan
from deployer.probing.look import Finding
from servers.models import ServerGroup
from tests.factories import make_group, make_project, make_server

pytestmark = pytest.mark.django_db


def three_servers() -> ServerGroup:
    servers = (make_server(name=f"web-{number}") for number in range(1, 4))
    return make_group(*servers, make_server(name="idle", is_active=False))


def refused_for(request: LaunchRequest) -> str:
    with pytest.raises(LaunchRefusedError) as refusal:
        check_launch(request)
    return refusal.value.field


def test_what_is_accepted_is_what_is_written() -> None:
    request = LaunchRequest(
        make_project(batches="100%", default_branch="main"), [three_servers()], batches="1, 100%", max_failures=2
    )
    accepted = check_launch(request)
    deployment = launch(request)
    assert (accepted.branch, deployment.branch) == ("main", "main")
    assert (accepted.plan.batches, accepted.plan.max_failures) == ("1, 100%", 2)
    assert isinstance(deployment.plan, dict)
    assert Plan.from_json(deployment.plan) == accepted.plan
    written = {target.server_id: target.batch for target in deployment.targets.all()}
    assert {server.pk: accepted.batches.get(server, 1) for server in accepted.servers} == written
    assert sorted(accepted.batches.values()) == [1, 2, 2]


def test_the_servers_are_asked_about_the_plan_of_this_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Accepted] = []

    def ask(_request: LaunchRequest, accepted: Accepted) -> list[Finding]:
        asked.append(accepted)
        return []

    monkeypatch.setattr("deployer.launching.beforehand._ask_all", ask)
    preflight_of(LaunchRequest(make_project(batches="100%"), [three_servers()], batches="1", max_failures=1))
    assert [(accepted.plan.batches, accepted.plan.max_failures) for accepted in asked] == [("1", 1)]


def test_of_several_refusals_the_first_one_in_order_is_told() -> None:
    project = make_project(deploy_script_path="", git_url="", environment="staging")
    request = LaunchRequest(project, [], deployment_type="nonsense", branch="-x", batches="x")
    assert refused_for(request) == "deployment_type"
    request = LaunchRequest(project, [], branch="-x", batches="x")
    assert refused_for(request) == "project"
    project.deploy_script_path, project.git_url = "restart.sh", "https://git.example.com/shop.git"
    assert refused_for(request) == "batches"
    assert refused_for(LaunchRequest(project, [], branch="-x")) == "server_groups"
    assert refused_for(LaunchRequest(project, [three_servers()], branch="-x")) == "server_groups"
    project.environment = "production"
    assert refused_for(LaunchRequest(project, [make_group(make_server())], branch="-x")) == "branch"


def test_a_restart_only_launch_has_no_branch() -> None:
    group = make_group(make_server())
    request = LaunchRequest(make_project(), [group], Deployment.Type.RESTART_ONLY, branch="-x")
    assert check_launch(request).branch == ""
