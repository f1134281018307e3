"""A plan knows its paths on a server once the login's home is known."""

import pytest

from deployer.plan import Location, Plan
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
