"""What was done on purpose: the deployments, and the commands that people ran."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.board.since.events import MOST, Event, Found, Kind, Window, found
from deployer.models import CommandRun, CommandTarget, Deployment, Target
from people.rights import Person
from projects.commands.proof import proof_in_words
from projects.models import Project
from servers.models import Server

#: Deployments that may have been launched before the good one and have ended after it, beside it on the same server.
_BESIDE = 20


def deployments_on(user: Person, server: Server, window: Window) -> Found:
    """What each deployment did on a server, whichever project it was of."""
    seen = Deployment.objects.reached_by(user).filter(pk=OuterRef("deployment"))
    moment = Coalesce("finished_at", "started_at", "deployment__created_at")
    rows: Any = Target.objects.filter(server=server).annotate(moment=moment, is_seen=Exists(seen))
    if window.good is not None:
        rows = rows.filter(deployment__gt=window.good.deployment - _BESIDE).exclude(deployment=window.good.deployment)
    rows = rows.filter(window.after("moment")).exclude(status=Target.Status.SKIPPED, finished_at=None)
    rows = rows.select_related("deployment__project", "deployment__created_by", "deployment__retry_of")
    known = list(rows.defer("deployment__plan", "evidence").order_by("-moment", "-pk")[: MOST + 1])
    told = ((row.moment, _of_target(row) if row.is_seen else None) for row in known[:MOST])
    return found(told, _cut(known))


def _cut(rows: list[Any]) -> datetime | None:
    return rows[MOST - 1].moment if len(rows) > MOST else None


def _of_target(row: Any) -> Event:
    it = row.deployment
    words = {"number": it.pk, "project": it.project, "type": it.get_deployment_type_display()}
    releases = ""
    if row.release_after and row.release_after != row.release_before:
        releases = f"{row.release_before} → {row.release_after}" if row.release_before else row.release_after
    return Event(
        Kind.DEPLOYMENT,
        row.moment,
        _("#%(number)d %(project)s: %(type)s") % words,
        who=it.launched_by,
        more=" · ".join(filter(None, [releases, row.reason or proof_in_words(row.proof)])),
        of="deployment",
        number=it.pk,
        status=row.status,
        status_label=str(row.get_status_display()),
    )


def deployments_of(user: Person, project: Project, window: Window) -> Found:
    """The deployments of a project, with how many of their servers went well."""
    seen = Deployment.objects.reached_by(user).filter(pk=OuterRef("pk"))
    moment = Coalesce("finished_at", "started_at", "created_at")
    rows: Any = Deployment.objects.listed().filter(project=project).annotate(moment=moment, is_seen=Exists(seen))
    if window.good is not None:
        rows = rows.filter(pk__gt=window.good.deployment)
    known = list(rows.filter(window.after("moment")).order_by("-moment", "-pk")[: MOST + 1])
    told = ((row.moment, _of_deployment(row) if row.is_seen else None) for row in known[:MOST])
    return found(told, _cut(known))


def _of_deployment(it: Any) -> Event:
    words = {"number": it.pk, "type": it.get_deployment_type_display(), "code": it.commit_hash[:10] or it.branch}
    what = _("#%(number)d: %(type)s of %(code)s") if words["code"] else _("#%(number)d: %(type)s")
    servers = _("%(done)d/%(all)d servers") % {"done": it.servers_done, "all": it.servers}
    return Event(
        Kind.DEPLOYMENT,
        it.moment,
        what % words,
        who=it.launched_by,
        more=" · ".join(filter(None, [servers, it.error_message])),
        of="deployment",
        number=it.pk,
        status=it.status,
        status_label=str(it.get_status_display()),
    )


def commands_on(user: Person, servers: "Iterable[int] | Any", window: Window, *, is_one: bool) -> Found:
    """The commands that people ran on these servers; ``is_one``: it is one server, whose end of the run is told."""
    here = CommandTarget.objects.filter(server__in=servers).exclude(started_at=None)
    seen = CommandRun.objects.reached_by(user).filter(pk=OuterRef("pk"))
    runs: Any = CommandRun.objects.filter(pk__in=here.order_by().values("run")).select_related("created_by")
    runs = runs.annotate(moment=Coalesce("started_at", "created_at"), is_seen=Exists(seen))
    runs = runs.annotate(number_here=Count("targets", filter=Q(targets__server__in=servers)))
    runs = runs.filter(window.after("moment")).defer("script", "values").order_by("-moment", "-pk")
    known = list(runs[: MOST + 1])
    ends = dict(here.filter(run__in=[run.pk for run in known]).values_list("run", "status")) if is_one else {}
    told = ((run.moment, _of_run(run, ends.get(run.pk)) if run.is_seen else None) for run in known[:MOST])
    return found(told, _cut(known))


def _of_run(run: Any, end: str | None) -> Event:
    status, label = str(run.status), str(run.get_status_display())
    if end is not None:
        status, label = end, str(CommandTarget.Status(end).label)
    servers = ngettext("on %d server", "on %d servers", run.number_here) % run.number_here
    return Event(
        Kind.COMMAND,
        run.moment,
        run.name,
        who=run.launched_by,
        more="" if end is not None else servers,
        of="commandrun",
        number=run.pk,
        status=status,
        status_label=label,
    )
