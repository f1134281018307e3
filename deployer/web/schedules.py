"""The schedules of a project: added, edited, paused, run at once, handed over, deleted."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Subquery
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from deployer.launching.rules import LaunchRefusedError
from deployer.models import Schedule, ScheduleRun
from deployer.triggers import by_hand
from deployer.triggers.schedule_forms import ScheduleForm
from deployer.triggers.schedules import owner_problem, run_now
from deployer.web.request import fragment
from pages.forms import as_sent
from people.access import Request, find, members_only
from people.record import delete
from people.roles import Action
from projects.cron import in_words, next_moments
from projects.models import Project
from projects.validators import validate_cron, validate_time_zone
from servers.fields import DecryptionError

#: Next dates that are shown of a schedule.
DATES_SHOWN = 5
#: Characters of what a preview is asked for.
_LONGEST = 100


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def schedule_add(request: Request, pk: int) -> HttpResponse:
    """A new schedule of a project."""
    it = find(request.user, Project.objects, Action.EDIT, pk=pk)
    it.insist_on_current()
    return _kept(request, Schedule(project=it), _("Add a schedule"))


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def schedule(request: Request, pk: int) -> HttpResponse:
    """A schedule, to be edited: whoever saves it owns it from then on."""
    it = _schedule(request, pk)
    return _kept(request, it, _("Edit %s") % it)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def schedule_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a schedule and what became of its moments; what it has launched stays."""
    it = _schedule(request, pk)
    if request.method == "POST":
        name, project = str(it), it.project_id
        delete(it)
        messages.success(request, _("The schedule %s is deleted. What it has launched stays.") % name)
        return redirect("project_triggers", project)
    return render(request, "deployer/triggers/schedule_delete.html", {"schedule": it, "project": it.project})


@require_POST
@members_only
def schedule_pause(request: Request, pk: int) -> HttpResponse:
    """Pause it."""
    it = _schedule(request, pk)

    by_hand.pause_schedule(it)
    return _told(request, it, _("The schedule %s is paused.") % it)


@require_POST
@members_only
def schedule_resume(request: Request, pk: int) -> HttpResponse:
    """Let it launch again from now on, if there is somebody who stands behind it."""
    it = _schedule(request, pk)
    if why := owner_problem(it):
        messages.error(request, why)
        return redirect("project_triggers", it.project_id)
    by_hand.resume_schedule(it)
    return _told(request, it, _("The schedule %s launches again.") % it)


@require_POST
@members_only
def schedule_take(request: Request, pk: int) -> HttpResponse:
    """Have it launch with the rights of whoever asks for that."""
    it = _schedule(request, pk)
    by_hand.take_schedule(it, request.user)
    return _told(request, it, _("The schedule %s launches with your rights from now on.") % it)


@require_POST
@members_only
def schedule_run(request: Request, pk: int) -> HttpResponse:
    """Launch at once what it would launch, by hand."""
    it = find(request.user, Schedule.objects.select_related("project"), Action.OPERATE, pk=pk)
    it.project.insist_on_current()
    try:
        return redirect(run_now(it, request.user))
    except (LaunchRefusedError, DecryptionError) as error:
        messages.error(request, str(error))
    return redirect("project_triggers", it.project_id)


@fragment
def schedule_preview(request: Request, pk: int) -> HttpResponse:
    """The next dates of a pattern in a zone, as they are typed in; or what is wrong with them."""
    find(request.user, Project.objects, Action.EDIT, pk=pk)
    cron, zone = (request.GET.get(name, "").strip() for name in ("cron", "time_zone"))
    return render(request, "deployer/triggers/_preview.html", _preview(cron, zone))


def _preview(cron: str, zone: str) -> dict[str, Any]:
    if not cron:
        return {}
    try:
        validate_cron(cron)
        validate_time_zone(zone[:_LONGEST])
    except ValidationError as error:
        return {"problem": " ".join(error.messages)}
    where = ZoneInfo(zone)
    found = next_moments(cron, where, timezone.now(), DATES_SHOWN)
    return {"words": in_words(cron), "dates": [on_the_wall(it, where) for it in found], "zone": zone}


def on_the_wall(moment: datetime, zone: ZoneInfo) -> datetime:
    """What a clock in ``zone`` shows then, without a zone: a template would show any other in that of its reader."""
    return moment.astimezone(zone).replace(tzinfo=None)


def rows_of(project: Project, now: datetime | None = None) -> list[dict[str, Any]]:
    """The schedules of a project as its page shows them: each with its next dates and what became of the last one."""
    schedules = Schedule.objects.filter(project=project).select_related("owner").defer("answers")
    schedules = schedules.prefetch_related("server_groups")
    latest = ScheduleRun.objects.filter(schedule=OuterRef("schedule")).order_by("-planned_for").values("pk")[:1]
    runs = ScheduleRun.objects.filter(schedule__project=project, pk=Subquery(latest))
    last = {run.schedule_id: run for run in runs}
    moment = now or timezone.now()
    return [
        {
            "schedule": it,
            "last": last.get(it.pk),
            "dates": [on_the_wall(date, it.zone) for date in it.upcoming(moment, DATES_SHOWN)] if it.is_active else [],
        }
        for it in schedules
    ]


def _schedule(request: Request, pk: int) -> Schedule:
    it = find(request.user, Schedule.objects.select_related("project", "owner"), Action.EDIT, pk=pk)
    it.project.insist_on_current()
    return it


def _told(request: Request, it: Schedule, told: str) -> HttpResponse:
    messages.success(request, told)
    return redirect("project_triggers", it.project_id)


def _kept(request: Request, it: Schedule, title: str) -> HttpResponse:
    form = as_sent(ScheduleForm, request.POST, instance=it, user=request.user)
    if request.method == "POST" and form.keep():
        messages.success(request, _("Saved. It launches with your rights."))
        return redirect("project_triggers", it.project_id)
    context = {"form": form, "project": it.project, "schedule": it, "title": title}
    cron, zone = (str(form[name].value() or "") for name in ("cron", "time_zone"))
    return render(request, "deployer/triggers/schedule.html", context | _preview(cron, zone))
