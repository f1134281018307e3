"""Objects for tests: plain functions that save what they make, with sensible values for all that is not given.

::

    server = make_server(sshd)                                  # its credential comes from the SSH server
    group = make_group(server, make_server(host="192.0.2.1"))   # the second one is never reached
    project = make_project(git_url=git_repo.url, deploy_path=str(sshd.home / "shop"))
    deployment = make_deployment(project, group)                # written by the real launch, on its way to the queue
"""

import itertools
from typing import Any

from deployer.launching.asked import LaunchRequest
from deployer.launching.launch import launch
from deployer.models import Deployment
from people.models import Grant, User
from projects.models import Project
from servers.models import Credential, Server, ServerGroup
from tests.parts.sshd import OpenSSHServer

_numbers = itertools.count(1)


def make_user(username: str = "", password: str = "correct horse", *, is_superuser: bool = True, **values: Any) -> Any:
    """A user who may log in with ``password``; a superuser unless said otherwise."""
    users = User.objects
    make = users.create_superuser if is_superuser else users.create_user
    return make(username=username or f"user-{next(_numbers)}", password=password, **values)


def make_member(
    role: str, environment: str = "", project: int | None = None, *, commands: bool = False, **values: Any
) -> Any:
    """A user who is this in a place: everywhere, or in an environment, a project (by its number), or both."""
    user = make_user(is_superuser=False, **values)
    Grant.objects.create(user=user, role=role, environment=environment, project=project, may_run_commands=commands)
    return user


def make_credential(sshd: OpenSSHServer | None = None, **values: Any) -> Credential:
    """A login that ``sshd`` accepts; without one, a password that nobody asks for."""
    number = next(_numbers)
    if sshd is not None:
        values = {"username": sshd.username, "kind": "ssh_key", "private_key": sshd.private_key} | values
    else:
        values = {"username": "deploy", "kind": "password", "password": f"secret-{number}"} | values
    return Credential.objects.create(**{"name": f"credential-{number}"} | values)


def make_server(sshd: OpenSSHServer | None = None, **values: Any) -> Server:
    """A server that is reached at ``sshd``, its host key not yet pinned; without one, an address that leads nowhere."""
    if sshd is not None:
        values = {"host": sshd.host, "port": sshd.port} | values
    if "credential" not in values:
        values["credential"] = make_credential(sshd)
    return Server.objects.create(**{"name": f"server-{next(_numbers)}", "host": "192.0.2.1"} | values)


def make_group(*servers: Server, **values: Any) -> ServerGroup:
    """A group of ``servers``, of the environment production unless said otherwise."""
    group = ServerGroup.objects.create(**{"name": f"group-{next(_numbers)}", "environment": "production"} | values)
    group.servers.set(servers)
    return group


def make_project(**values: Any) -> Project:
    """A project that can be launched both ways, of the environment production unless said otherwise."""
    defaults = {
        "name": f"project-{next(_numbers)}",
        "environment": "production",
        "git_url": "https://git.example.com/shop.git",
        "deploy_path": "/srv/shop",
        "deploy_script_path": "/srv/shop/restart.sh",
    }
    return Project.objects.create(**defaults | values)


def make_deployment(
    project: Project, *groups: ServerGroup, deployment_type: str = Deployment.Type.FULL, **values: Any
) -> Deployment:
    """Launch ``project`` on ``groups`` as the command line would; ``values`` are further fields of the request."""
    return launch(LaunchRequest(project, groups, deployment_type, **{"trigger": Deployment.Trigger.CLI} | values))
