"""How many commands a restart costs each server: what is not set costs none."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from deployer.engine.routines import carry_out
from deployer.models import Deployment
from projects.models import Project
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.programs import command_line, kill_all
from tests.parts.sshd import OpenSSHServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

NAME = f"counted-{os.getpid()}"
SCRIPT = f"""\
[ ! -f ~/pid ] || kill "$(cat ~/pid)"
(exec -a {NAME} sleep 7000) </dev/null >/dev/null 2>&1 &
echo $! >~/pid
"""
#: Before there were steps and config files: the look, the restart, and what it has brought about.
PLAIN = 3


class Restarts:
    """A server whose sshd writes down each command, and a project that is restarted there."""

    def __init__(self, sshd: OpenSSHServer) -> None:
        self.sshd = sshd
        self.group: ServerGroup = make_group(make_server(sshd, name="web-1"))
        values = {"deploy_path": "", "deploy_script_path": "", "restart_script": SCRIPT, "process_name": NAME}
        self.project: Project = make_project(name="shop", **values)

    def commands(self) -> int:
        """How many commands one restart was."""
        before = self._count()
        deployment = make_deployment(self.project, self.group, deployment_type="restart_only")
        assert carry_out(deployment.pk)
        deployment = Deployment.objects.get(pk=deployment.pk)
        assert deployment.status == "success", deployment.error_message
        return self._count() - before

    def kept(self) -> list[str]:
        """The runs that the server still keeps."""
        return [path.name for path in (self.sshd.home / ".deployer" / "runs").glob("*") if path.is_dir()]

    def _count(self) -> int:
        return self.sshd.log.count("Starting session: command")


@pytest.fixture
def restarts(make_sshd: Any) -> Iterator[Restarts]:
    it = Restarts(make_sshd())
    it.commands()  # starts the application, pins the host key
    yield it
    kill_all([pid for pid in it.sshd.processes() if NAME in command_line(pid).split()])


def test_a_restart_with_none_of_it_is_as_many_commands_as_before(restarts: Restarts) -> None:
    assert restarts.commands() == PLAIN


def test_a_config_file_costs_no_command_where_it_is_as_it_should_be_and_one_where_it_changed(
    restarts: Restarts,
) -> None:
    restarts.project.config_files.create(path="~/settings", content="1")
    restarts.project.config_files.create(path="~/more", content="1")
    assert restarts.commands() == PLAIN + 1
    assert restarts.commands() == PLAIN
    restarts.project.config_files.update(content="2")
    assert restarts.commands() == PLAIN + 1, "all of them together"
    assert (restarts.sshd.home / "settings").read_text() == "2"


def test_a_step_before_costs_one_command_and_one_after_another_to_forget_it(restarts: Restarts) -> None:
    restarts.project.steps.create(name="drain", moment="before", script="echo drained")
    assert restarts.commands() == PLAIN + 1
    restarts.project.steps.create(name="put back", moment="after", script="echo back")
    assert restarts.commands() == PLAIN + 3
    assert restarts.kept() == [], "the server keeps nothing of what has ended"


def test_a_step_before_is_forgotten_where_it_fails_too(restarts: Restarts) -> None:
    restarts.project.steps.create(name="drain", moment="before", script="exit 3")
    deployment = make_deployment(restarts.project, restarts.group, deployment_type="restart_only")
    assert carry_out(deployment.pk)
    assert Deployment.objects.get(pk=deployment.pk).status == "failed"
    assert restarts.kept() == []
