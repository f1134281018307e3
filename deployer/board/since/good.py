"""When it was last good: proved on one server, or ended well everywhere."""

from typing import Any

from django.db.models import QuerySet

from deployer.board.since.events import Good
from deployer.models import Deployment, Target
from people.rights import Person
from projects.commands.proof import Verdict
from projects.models import Project
from servers.models import Server

_PROVED = frozenset({Verdict.REPLACED, Verdict.RELOADED, Verdict.RUNNING})


def of_server(
    user: Person, server: Server, project: Project | None = None, about: Deployment | None = None
) -> tuple[Good | None, Good | None]:
    """The last good end on a server, of one project where one is meant; before a deployment and the next one after it.

    One that only stopped the application is no good end.
    """
    seen = Deployment.objects.reached_by(user).exclude(deployment_type=Deployment.Type.STOP).order_by().values("pk")
    rows = Target.objects.filter(server=server, status=Target.Status.SUCCESS, deployment__in=seen)
    if project is not None:
        rows = rows.filter(deployment__project=project)
    rows = rows.select_related("deployment__project", "deployment__created_by")
    rows = rows.defer("deployment__plan", "evidence")
    if about is None:
        return _of_target(rows.order_by("-pk").first()), None
    before = rows.filter(deployment__lt=about).order_by("-pk").first()
    return _of_target(before), _of_target(rows.filter(deployment__gt=about).order_by("pk").first())


def of_project(user: Person, project: Project, about: Deployment | None = None) -> tuple[Good | None, Good | None]:
    """The last deployment of a project that ended well everywhere, in the same way."""
    seen: QuerySet[Any] = Deployment.objects.reached_by(user).filter(project=project, status=Deployment.Status.SUCCESS)
    rows = seen.exclude(deployment_type=Deployment.Type.STOP).select_related("project", "created_by").defer("plan")
    if about is None:
        return _of_deployment(rows.order_by("-pk").first()), None
    before = rows.filter(pk__lt=about.pk).order_by("-pk").first()
    return _of_deployment(before), _of_deployment(rows.filter(pk__gt=about.pk).order_by("pk").first())


def _of_target(target: Target | None) -> Good | None:
    if target is None:
        return None
    it = target.deployment
    at = target.finished_at or it.finished_at or it.created_at
    is_proved = target.proof.get("verdict", "") in _PROVED
    return Good(it.pk, it.project.name, it.created_at, at, is_proved, it.launched_by)


def _of_deployment(it: Deployment | None) -> Good | None:
    if it is None:
        return None
    return Good(it.pk, it.project.name, it.created_at, it.finished_at or it.created_at, False, it.launched_by)
