"""Config files on real servers: written whole, checked, kept, put back, and never overwritten unsaid."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployer.engine.routines import carry_out
from deployer.models import ConfigState, Deployment, Target
from projects.models import ConfigFile, Project, Variable
from servers.models import Server, ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.git import GitRepository
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db(transaction=True)

#: Takes down what its configuration is when it is restarted; each server has its own word on how that ends.
RESTART = 'cat ~/etc/app.conf >>~/runs 2>/dev/null; echo "--" >>~/runs\n[ ! -e ~/rule ] || . ~/rule\n'


class Site:
    """A project that is restarted by a script in the home of each of its servers, and reads ~/etc/app.conf."""

    def __init__(self, *machines: OpenSSHServer, **values: Any) -> None:
        self.machines = machines
        for machine in machines:
            (machine.home / "etc").mkdir()
            (machine.home / "restart.sh").write_text(RESTART)
        self.servers: list[Server] = [make_server(it, name=f"web-{n}") for n, it in enumerate(machines, start=1)]
        self.group: ServerGroup = make_group(*self.servers, name="web")
        self.project: Project = make_project(
            name=f"files-{os.getpid()}",
            **{"deploy_path": "", "deploy_script_path": "~/restart.sh", "script_timeout": 60} | values,
        )

    def file(self, path: str = "~/etc/app.conf", **values: Any) -> ConfigFile:
        row = ConfigFile(project=self.project, path=path, **{"content": "port=80\n"} | values)
        row.full_clean()
        row.save()
        return row

    def launched(self, deployment_type: str = "restart_only", **values: Any) -> Deployment:
        return make_deployment(self.project, self.group, deployment_type=deployment_type, **values)

    def deployed(self, deployment_type: str = "restart_only", **values: Any) -> Deployment:
        deployment = self.launched(deployment_type, **values)
        assert carry_out(deployment.pk)
        return Deployment.objects.get(pk=deployment.pk)

    def at(self, number: int = 1) -> Path:
        return self.machines[number - 1].home / "etc" / "app.conf"

    def runs(self, number: int = 1) -> str:
        return (self.machines[number - 1].home / "runs").read_text()


@pytest.fixture
def site(make_sshd: Callable[..., OpenSSHServer]) -> Site:
    return Site(make_sshd())


def target(deployment: Deployment, name: str = "web-1") -> Target:
    return deployment.targets.get(server_name=name)


def log_of(deployment: Deployment) -> str:
    return "\n".join(deployment.log_lines.order_by("id").values_list("text", flat=True))


def test_a_restart_puts_a_file_there_before_the_script_runs_and_leaves_it_alone_the_next_time(site):
    site.file(mode="0600")
    first = site.deployed()
    assert first.status == "success", first.error_message
    assert site.at().read_text() == "port=80\n"
    assert stat.S_IMODE(site.at().stat().st_mode) == 0o600
    assert site.runs() == "port=80\n--\n"
    inode = site.at().stat().st_ino
    second = site.deployed()
    assert second.status == "success"
    assert site.at().stat().st_ino == inode
    row = ConfigState.objects.get()
    assert (row.path, row.deployment_id, row.coming) == ("~/etc/app.conf", first.pk, "")
