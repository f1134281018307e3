"""The steps to the first deployment, and the next one to do."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext as _

from deployer.models import Deployment
from people.models import User
from people.rights import reach
from people.roles import Action
from projects.models import Project
from servers.models import Credential, Server, ServerGroup


@dataclass(frozen=True)
class FirstStep:
    """One thing to do before the first deployment, and the page where it is done."""

    title: str
    text: str
    done: bool
    page: str


def first_steps(user: User) -> list[FirstStep]:
    """The steps before the first deployment, in order, by what ``user`` sees."""
    return [
        FirstStep(
            _("Add a credential"),
            _("The user name and the SSH key or password that log in to your servers."),
            Credential.objects.reached_by(user).exists(),
            "credential_add",
        ),
        FirstStep(
            _("Add a server and test its connection"),
            _("Its address and the credential. Nothing is installed on it."),
            Server.objects.reached_by(user).exists(),
            "server_add",
        ),
        FirstStep(
            _("Put servers into a group"),
            _("A group belongs to one environment; a deployment goes to groups."),
            ServerGroup.objects.reached_by(user).exists(),
            "group_add",
        ),
        FirstStep(
            _("Create a project"),
            _("Say where its code is; deployer proposes how to build and restart it."),
            Project.objects.current().reached_by(user).exists(),
            "project_add",
        ),
    ]


def next_step(steps: Iterable[FirstStep]) -> FirstStep | None:
    """The first one that is not done yet."""
    return next((step for step in steps if not step.done), None)


def way_on(user: User) -> FirstStep | None:
    """The next step to the first deployment, if this user is allowed to do it; nothing once there was one."""
    may_add = reach(user, Action.EDIT).holds_an_environment
    return None if not may_add or Deployment.objects.reached_by(user).exists() else next_step(first_steps(user))
