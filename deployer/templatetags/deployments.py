"""How templates speak of deployments: durations, icons, log text, and the latest ones of a project or a server."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Any

from django import template
from django.db.models import Max, QuerySet
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from deployer import __version__
from deployer.board.timings import Segment, phases_of, picture_of
from deployer.log import terminal
from deployer.log.reading import Row
from deployer.models import Deployment, Target
from deployer.queue import jobs
from deployer.releases.store import newest_of
from deployer.web.first_steps import first_steps, next_step
from projects.commands import service
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

#: The order in which counts of servers are read.
_WORST_FIRST = sorted(Target.Status, key=lambda status: (status not in Target.FAILURES, status in Target.ENDED))

register.filter("terminal", terminal.as_html)
register.filter("in_words", service.proof_in_words)


@register.simple_tag
def product_version() -> str:
    """The version of deployer."""
    return __version__


@register.filter
def status_icon(status: str) -> str:
    """The name of the icon of a deployment's or a server's status."""
    return _ICONS.get(status, "running")


@register.filter
def favicon(status: str) -> str:
    """The icon of the browser tab for a deployment's status."""
    return f"favicon/{_COLOURS.get(status, 'running')}.svg"


def _clock_forms() -> tuple[str, str, str]:
    """How seconds, minutes and hours are said."""
    return _("%(seconds)s s"), _("%(minutes)s min %(seconds)s s"), _("%(hours)s h %(minutes)s min")


@register.simple_tag
def clock_forms() -> str:
    """The same for the script that lets durations go on counting, parted by ``|``."""
    return "|".join(_clock_forms())


@register.filter
def clock(span: timedelta) -> str:
    """A duration as an operator says it: ``0.8 s``, ``42 s``, ``3 min 05 s``, ``1 h 02 min``."""
    in_seconds, in_minutes, in_hours = _clock_forms()
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 60:
        return in_seconds % {"seconds": f"{seconds:.1f}" if seconds < 10 else int(seconds)}
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return in_minutes % {"minutes": minutes, "seconds": f"{rest:02}"}
    return in_hours % {"hours": minutes // 60, "minutes": f"{minutes % 60:02}"}


@register.inclusion_tag("deployer/_way_on.html", takes_context=True)
def way_on(context: Mapping[str, Any]) -> dict[str, Any]:
    """What is next on the way to the first deployment, if this user may do it; nothing once there was one."""
    step = None if Deployment.objects.exists() else next_step(first_steps())
    return {"step": step if step and context["request"].user.has_perm(step.permission) else None}


@register.simple_tag
def queue_is_lost() -> bool:
    """Whether the queue did not answer lately."""
    return jobs.queue_is_lost()


@register.simple_tag
def duration(work: Deployment | Target) -> str:
    """How long it took; while it runs, the time so far, which a script keeps going.

    The time that a server waited for its batch is left out.
    """
    if work.started_at is None:
        return "–"
    began = work.started_at
    if isinstance(work, Target) and work.staged_at is not None:
        if work.begun_at is not None:
            began += max(work.begun_at - work.staged_at, timedelta())
        elif work.finished_at is None or work.status in {Target.Status.SKIPPED, Target.Status.CANCELLED}:
            return clock(work.staged_at - began)
    if work.finished_at is not None:
        return clock(work.finished_at - began)
    return format_html('<span data-since="{}">{}</span>', began.isoformat(), clock(timezone.now() - began))


@register.simple_tag
def timings(deployment: Deployment, targets: Sequence[Target]) -> list[Segment]:
    """The phases of a deployment as a picture."""
    return picture_of(phases_of(deployment, targets))


@register.filter
def by_batch(targets: Iterable[Target]) -> list[tuple[int, list[Target], int]]:
    """Each batch with its servers and how many of them have ended; those that were left out are in a batch 0."""
    ordered = sorted(targets, key=lambda target: (0 if target.was_left_out else target.batch, target.pk))
    batches = groupby(ordered, key=lambda target: 0 if target.was_left_out else target.batch)
    found = [(number, list(members)) for number, members in batches]
    rows = [(number, members, sum(it.status in Target.ENDED for it in members)) for number, members in found]
    return sorted(rows, key=lambda row: row[0] or len(ordered) + 1)


@register.filter
def tally(targets: Sequence[Target]) -> list[tuple[str, str, int, int]]:
    """How many servers are in each status, the worst first: the status, its name, how many, the id of the first."""
    counts = Counter(Target.Status(target.status) for target in targets)
    first = {Target.Status(target.status): target.pk for target in reversed(targets)}
    order = [status for status in _WORST_FIRST if counts[status]]
    return [(status.value, str(status.label), counts[status], first[status]) for status in order]


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
    up = timezone.now() - since
    return clock(up) if up < timedelta(minutes=1) else timesince(since, depth=1)


@register.simple_tag
def log_rows(rows: Iterable[Row]) -> SafeString:
    """Rows of a log. However many watch it, each row is made into HTML once in a process, for each language."""
    language = get_language()
    return format_html_join("", "{}", ((_log_row(row, language),) for row in rows))


@lru_cache(maxsize=2000)
def _log_row(row: Row, _language: str) -> SafeString:
    return render_to_string("deployer/_line.html", {"row": row})


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
