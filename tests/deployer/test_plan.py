"""A plan knows its paths on a server once the login's home is known."""

import json

import pytest

from deployer.plan import Location, Plan
from projects.frozen import NewerPlanError
from tests.factories import make_project

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("deploy_path", "script", "expected"),
    [
        ("/srv/shop/", "restart.sh", Location("/srv/shop", "/srv/shop/current/restart.sh", "")),
        ("~/shop", "bin/restart.sh", Location("/home/ann/shop", "/home/ann/shop/current/bin/restart.sh", "")),
        ("~/shop", "~/restart.sh", Location("/home/ann/shop", "/home/ann/restart.sh", "")),
        ("", "/opt/restart.sh", Location("", "/opt/restart.sh", "")),
    ],
)
def test_every_path_is_absolute_on_a_server(deploy_path: str, script: str, expected: Location) -> None:
    plan = Plan.of(make_project(deploy_path=deploy_path, deploy_script_path=script), [])
    assert plan.on("/home/ann/", "full") == expected


def test_a_restart_only_deployment_has_its_own_script() -> None:
    project = make_project(deploy_path="~/shop", deploy_script_path="a.sh", restart_only_script_path="~/b.sh")
    project.log_path = "~/shop.log"
    location = Plan.of(project, []).on("/home/ann", "restart_only")
    assert (location.script, location.log_path) == ("/home/ann/b.sh", "/home/ann/shop.log")


def test_a_plan_that_was_frozen_before_a_field_was_known_has_its_default() -> None:
    project = make_project(watch_for=30)
    project.health_checks.create(kind="http", target="http://127.0.0.1/", expect_header="X-Release: 1")
    frozen = Plan.of(project, []).to_json()
    del frozen["watch_for"], frozen["health_checks"][0]["expect_header"]
    plan = Plan.from_json(json.loads(json.dumps(frozen)))
    assert (plan.watch_for, plan.health_checks[0].expect_header) == (1, "")


def test_what_only_a_newer_version_knows_is_refused_unless_it_is_empty() -> None:
    project = make_project()
    project.health_checks.create(kind="http", target="http://127.0.0.1/")
    project.steps.create(name="warm", moment="after", script="true")
    frozen = json.loads(json.dumps(Plan.of(project, []).to_json()))
    rows = [frozen, frozen["health_checks"][0], frozen["steps"][0]]
    for row in rows:
        row |= {"later": "", "longer": 0, "wider": False, "more": [], "unset": None}
    assert Plan.from_json(frozen) == Plan.of(project, [])
    for row in rows:
        row["later"] = "before all"
        with pytest.raises(NewerPlanError, match="newer deployer, and asks for what this one does not know: later"):
            Plan.from_json(frozen)
        row["later"] = ""
