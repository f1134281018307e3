"""How templates speak of deployments: durations, icons, log text, and the latest ones of a project or a server."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django import template
from django.db.models import Max, QuerySet
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from deployer import jobs, terminal
from deployer.models import Deployment, Target
from deployer.releases import newest_of
from projects.models import Project
from servers.models import Server, ServerGroup

register = template.Library()

_ICONS = {
    "success": "ok",
    "failed": "failed",
    "interrupted": "warning",
    "unknown": "unknown",
    "unchanged": "unchanged",
    "cancelled": "cancelled",
    "rolled_back": "undone",
    "skipped": "skipped",
    "pending": "waiting",
    "staged": "waiting",
}
_COLOURS = {"success": "success", "failed": "failed", "interrupted": "failed", "cancelled": "cancelled"}

register.filter("terminal", terminal.as_html)


@register.filter
def status_icon(status: str) -> str:
    """The name of the icon of a deployment's or a server's status."""
    return _ICONS.get(status, "running")


@register.filter
def favicon(status: str) -> str:
    """The icon of the browser tab for a deployment's status."""
    return f"favicon/{_COLOURS.get(status, 'running')}.svg"


@register.filter
def clock(span: timedelta) -> str:
    """A duration as an operator says it: ``0.8 s``, ``42 s``, ``3 min 05 s``, ``1 h 02 min``."""
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 10:
        return _("%(seconds)s s") % {"seconds": f"{seconds:.1f}"}
    if seconds < 60:
        return _("%(seconds)s s") % {"seconds": int(seconds)}
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return _("%(minutes)s min %(seconds)s s") % {"minutes": minutes, "seconds": f"{rest:02}"}
    return _("%(hours)s h %(minutes)s min") % {"hours": minutes // 60, "minutes": f"{minutes % 60:02}"}


@register.simple_tag
def queue_is_lost() -> bool:
    """Whether the queue did not answer lately."""
    return jobs.queue_is_lost()


@register.simple_tag
def duration(work: Deployment | Target) -> str:
    """How long it took; while it runs, the time so far, which a script keeps going."""
    if work.started_at is None:
        return "–"
    if work.finished_at is not None:
        return clock(work.finished_at - work.started_at)
    return format_html(
        '<span data-since="{}">{}</span>', work.started_at.isoformat(), clock(timezone.now() - work.started_at)
    )


@register.filter
def ago(moment: datetime | None) -> str | SafeString:
    """How long ago, with the exact time for whoever points at it."""
    if moment is None:
        return ""
    local = timezone.localtime(moment)
    if timezone.now() - moment < timedelta(minutes=1):
        text = _("just now")
    else:
        text = _("%(time)s ago") % {"time": timesince(moment, depth=1)}
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', local.isoformat(), f"{local:%Y-%m-%d %H:%M:%S %Z}", text
    )


@register.filter
def moment(text: str) -> datetime | None:
    """The time that an ISO 8601 text names; nothing if it names none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


@register.filter
def uptime(process: Mapping[str, Any]) -> str:
    """How long a process has been running, by its server's clock; empty where that is not known."""
    try:
        since = datetime.strptime(str(process.get("since", "")), "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return ""
    return timesince(since, depth=1)


@register.simple_tag
def deployments_of(project: Project) -> QuerySet[Deployment]:
    """The ten newest deployments of a project."""
    return Deployment.objects.listed().filter(project=project)[:10]


@register.simple_tag
def with_newest_deployment(projects: Iterable[Project]) -> list[tuple[Project, Deployment | None]]:
    """Each project with its newest deployment."""
    newest: QuerySet[Deployment, Any] = (
        Deployment.objects.order_by().values("project").annotate(newest=Max("id")).values("newest")
    )
    found = {row.project_id: row for row in Deployment.objects.listed().filter(id__in=newest)}
    return [(project, found.get(project.pk)) for project in projects]


@register.simple_tag
def targets_of(server: Server) -> QuerySet[Target]:
    """The ten newest visits of deployments to a server."""
    return (
        Target.objects.filter(server=server)
        .select_related("deployment__project")
        .defer("deployment__plan")
        .order_by("-id")[:10]
    )


@register.simple_tag
def with_projects(servers: Iterable[Server]) -> list[tuple[Server, list[tuple[Project, str]]]]:
    """Each server with the projects that were deployed there, and how the last visit of each ended."""
    listed = list(servers)
    came = Target.objects.filter(server__in=listed, started_at__isnull=False)
    visits = list(newest_of(came, "status"))
    projects = Project.objects.only("name", "environment").in_bulk({project for project, _server, _status in visits})
    found: dict[int, list[tuple[Project, str]]] = {}
    for project, server, status in visits:
        found.setdefault(server, []).append((projects[project], status))
    return [(server, sorted(found.get(server.pk, []), key=lambda row: row[0].name)) for server in listed]


@register.simple_tag
def projects_on(server: Server) -> list[tuple[Project, str]]:
    """The projects that were deployed to a server, and how the last visit of each ended."""
    return with_projects([server])[0][1]


@register.simple_tag
def with_projects_of_environment(groups: Iterable[ServerGroup]) -> list[tuple[ServerGroup, list[Project]]]:
    """Each group with the projects that can be deployed to it: those of its environment."""
    found: dict[str, list[Project]] = {}
    for project in Project.objects.only("name", "environment").order_by("name"):
        found.setdefault(project.environment, []).append(project)
    return [(group, found.get(group.environment, [])) for group in groups]


@register.simple_tag
def deployments_to(group: ServerGroup) -> QuerySet[Deployment]:
    """The ten newest deployments to a group."""
    return Deployment.objects.listed().filter(server_groups=group)[:10]


@register.simple_tag
def projects_of(group: ServerGroup) -> list[tuple[Project, Deployment | None]]:
    """The projects of a group's environment, each with its newest deployment to the group; those that came first."""
    newest: QuerySet[Deployment, Any] = (
        Deployment.objects.filter(server_groups=group)
        .order_by()
        .values("project")
        .annotate(newest=Max("id"))
        .values("newest")
    )
    found = {row.project_id: row for row in Deployment.objects.listed().filter(id__in=newest)}
    projects = Project.objects.filter(environment=group.environment).order_by("name")
    rows = [(project, found.get(project.pk)) for project in projects]
    return sorted(rows, key=lambda row: row[1] is None)
