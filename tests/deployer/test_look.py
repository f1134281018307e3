"""What the facts about a server mean for a deployment."""

from dataclasses import replace

import pytest

from deployer.plan import Plan
from deployer.probing.look import findings
from projects.commands.look import TOOLS, Facts
from projects.commands.matching import Found
from tests.factories import make_project

pytestmark = pytest.mark.django_db

#: Nothing is as it should be.
BAD = Facts(
    home="/home/ann",
    live="",
    tools=frozenset(),
    script="missing",
    folder="/srv",
    current_is_folder=True,
    may_run_as=False,
    free=1 << 20,
    windows_lines=True,
)


def found(deployment_type: str, facts: Facts, **values: str) -> list[str]:
    project = make_project(deploy_path="~/shop", run_as="shop", **{"deploy_script_path": "~/restart.sh"} | values)
    return [
        f"{finding.level} {finding.server}: {finding.what}"
        for finding in findings("web-1", Plan.of(project, []), deployment_type, facts, [Found()])
    ]


def test_all_that_is_wrong_is_told_in_one_order() -> None:
    assert found("full", BAD) == [
        "error web-1: The restart would fail",
        "warning web-1: The script may fail",
        *(f"error web-1: {tool} is not installed on the server" for tool in ("bash", "tar", "gzip", "readlink", "mv")),
        "warning web-1: setsid is not installed on the server",
        "error web-1: The script cannot be run as shop",
        "error web-1: The release cannot be put on the server",
        "error web-1: The release cannot be made live",
        "warning web-1: The disk is nearly full",
    ]


def test_a_restart_needs_bash_alone_and_nothing_is_said_where_all_is_well() -> None:
    facts = replace(BAD, folder="", current_is_folder=False, may_run_as=True, free=-1, windows_lines=False)
    assert [line for line in found("restart_only", facts) if "installed" in line] == [
        "error web-1: bash is not installed on the server",
        "warning web-1: setsid is not installed on the server",
    ]
    assert found("full", replace(facts, tools=frozenset(TOOLS), script="")) == []


def test_a_script_that_comes_with_the_release_need_not_be_there_yet() -> None:
    facts = replace(BAD, tools=frozenset(TOOLS), folder="", current_is_folder=False, may_run_as=True, free=-1)
    well = replace(facts, windows_lines=False)
    assert found("full", well, deploy_script_path="restart.sh") == []
    assert found("full", facts, deploy_script_path="restart.sh") == []
    assert found("restart_only", well, deploy_script_path="restart.sh") == ["error web-1: The restart would fail"]
