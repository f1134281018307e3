"""Trains: those that are kept, the launch of one, and each run on one page with all of its stops."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import F, OuterRef, Prefetch, Subquery, Sum
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from deployer.declaring.export import train_as_yaml
from deployer.gates.deciding import CannotDecideError
from deployer.models import Deployment, Stop, Train, TrainApproval, TrainRun, TrainStop
from deployer.trains import acts
from deployer.trains.approving import decide, objection
from deployer.trains.driving import drive, switched_by
from deployer.trains.forms import Stops, TrainForm, TrainLaunchForm
from deployer.trains.launch import launch_train
from deployer.trains.planned import TrainRefusedError, plan_stops
from deployer.web.request import Pass, fragment
from people.access import Request, View, find, members_only, needs_somewhere
from people.models import User
from people.record import Act, actor, delete, record
from people.rights import insist, may
from people.roles import Action
from projects.models import Project

#: Runs that the list shows on a page, and those on the page of a train.
RUNS_PAGE, RECENT = 30, 10

form_page = require_http_methods(["GET", "HEAD", "POST"])


def _seen_stops(user: User) -> "Prefetch[Any]":
    inside = Stop.objects.filter(project__in=_seen_projects(user)).select_related("project")
    return Prefetch("stops", inside.prefetch_related("server_groups"), to_attr="seen")


def _seen_projects(user: User) -> Any:
    return Project.objects.reached_by(user).order_by().values("pk")


def _hidden(it: Train) -> int:
    """How many stops of a train are out of sight; ``seen`` are the others."""
    return len(it.stops.all()) - len(vars(it)["seen"])


@require_safe
@members_only
def trains(request: Request) -> HttpResponse:
    """The trains in sight, and their runs, the newest first."""
    user = request.user
    rows = Train.objects.reached_by(user).prefetch_related(_seen_stops(user), "stops__project")
    runs = TrainRun.objects.reached_by(user).select_related("created_by").order_by("-id")
    context = {
        "trains": [(it, may(user, Action.EDIT, it), _hidden(it)) for it in rows],
        "page": Paginator(runs, RUNS_PAGE).get_page(request.GET.get("page")),
    }
    return render(request, "deployer/trains/list.html", context)


@form_page
@needs_somewhere(Action.EDIT)
def train_add(request: Request) -> HttpResponse:
    """A new train; whoever makes it is its owner."""
    return _edit(request, Train(owner=request.user), _("Put a train together"))


@form_page
@members_only
def train_edit(request: Request, pk: int) -> HttpResponse:
    """A train and its stops, to be edited by whoever may edit all of their projects."""
    it = find(request.user, Train.objects.prefetch_related("stops__project"), Action.EDIT, pk=pk)
    return _edit(request, it, _("Edit %s") % it)


def _edit(request: Request, it: Train, title: str) -> HttpResponse:
    form = TrainForm(request.POST or None, instance=it)
    drawn = Stop.objects.select_related("project").prefetch_related("server_groups")
    rows: Any = Stops(request.POST or None, instance=it, user=request.user, queryset=drawn)
    if request.method == "POST":
        with transaction.atomic():
            if rows.is_valid() and form.keep():
                rows.instance = form.instance
                rows.save()
                messages.success(request, _("Saved. Runs that are under way keep the stops that they were begun with."))
                return redirect(form.instance)
    back = reverse("train", args=[it.pk]) if it.pk else reverse("trains")
    context = {"form": form, "rows": rows, "train": it, "title": title, "back": back}
    return render(request, "deployer/trains/form.html", context)


@require_safe
@members_only
def train_yaml(request: Request, pk: int) -> HttpResponse:
    """The train as a file that `deployer apply` takes, for whoever may edit all of it."""
    it = find(request.user, Train.objects.prefetch_related("stops__project"), Action.EDIT, pk=pk)
    record(actor(), Act.DOWNLOADED, it, note="YAML")
    answer = HttpResponse(train_as_yaml(it), content_type="application/yaml; charset=utf-8")
    name = slugify(it.name) or "train"
    answer["Content-Disposition"] = content_disposition_header(True, f"{name}.yaml")
    return answer


@form_page
@members_only
def train_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a train; its runs stay."""
    it = find(request.user, Train.objects.prefetch_related("stops__project"), Action.EDIT, pk=pk)
    if request.method == "POST":
        delete(it)
        messages.success(request, _("“%s” was deleted.") % it)
        return redirect("trains")
    return render(request, "deployer/trains/delete.html", {"it": it})


@form_page
@members_only
def train(request: Request, pk: int) -> HttpResponse:
    """What a launch of a train would do at each stop, for those who may; a POST launches it."""
    user = request.user
    it = find(user, Train.objects.prefetch_related(_seen_stops(user), "stops__project"), pk=pk)
    stops = list(it.stops.all())
    operable = bool(stops) and all(may(user, Action.OPERATE, stop.project) for stop in stops)
    form = TrainLaunchForm(request.POST if request.method == "POST" else None, stops=stops if operable else ())
    if request.method == "POST":
        insist(user, Action.OPERATE, *[stop.project for stop in stops])
        if form.is_valid():
            told = {"note": form.cleaned_data["note"], "answers": form.answers}
            try:
                return redirect(launch_train(it, created_by=user, trigger="web", **told))
            except TrainRefusedError as refusal:
                form.add_error(None, refusal.message)
    context: dict[str, Any] = {
        "train": it,
        "form": form,
        "operable": operable,
        "hidden": _hidden(it),
        "editable": may(user, Action.EDIT, it),
        "active": TrainRun.objects.active().filter(train=it).first(),
        "runs": TrainRun.objects.reached_by(user).filter(train=it).select_related("created_by")[:RECENT],
    }
    return render(request, "deployer/trains/train.html", context, status=400 if form.errors else 200)


@fragment
def train_plan(request: Request, pk: int) -> HttpResponse:
    """What a launch would do at each stop now, by what is known here: no repository is asked for it."""
    it = find(request.user, Train.objects, pk=pk)
    insist(request.user, Action.OPERATE, *[stop.project for stop in it.stops.select_related("project")])
    launcher: dict[str, Any] = {"created_by": request.user, "trigger": Deployment.Trigger.WEB, "launched_for": ""}
    try:
        planned = plan_stops(it, fetched=False, **launcher)
    except TrainRefusedError as refusal:
        return render(request, "deployer/trains/_plan.html", {"refusal": refusal.message})
    return render(request, "deployer/trains/_plan.html", {"planned": planned})


# --- one run -----------------------------------------------------------------------------------------


def _shown(user: User, pk: int) -> TrainRun:
    return find(user, TrainRun.objects.select_related("created_by", "owner"), pk=pk)


def _operated(user: User, pk: int) -> TrainRun:
    """The run, for somebody who may operate every stop of it."""
    run = _shown(user, pk)
    insist(user, Action.OPERATE, *run.stops.select_related("project"))
    return run


def _revision(pk: int) -> tuple[str, bool] | None:
    """What the page of a run shows, as one text that changes with it, and whether it goes on: in one statement."""
    of_run = Deployment.objects.filter(train_stop__run=OuterRef("pk")).order_by()
    changes = of_run.values("train_stop__run").annotate(n=Sum(F("revision") + 1)).values("n")
    row = TrainRun.objects.filter(pk=pk).values_list("revision", "finished_at", Subquery(changes)).first()
    return None if row is None else (f"{row[0]}-{row[2] or 0}", row[1] is None)


def _context(user: User, run: TrainRun) -> dict[str, Any]:
    stops = list(run.stops.select_related("project"))
    inside = {*TrainStop.objects.reached_by(user).filter(run=run).values_list("pk", flat=True)}
    rows = Deployment.objects.filter(train_stop__run=run).defer("plan").select_related("project").order_by("pk")
    made: dict[int | None, list[Deployment]] = {}
    for it in rows:
        made.setdefault(it.train_stop_id, []).append(it)
    operable = all(may(user, Action.OPERATE, stop) for stop in stops)
    done = sum(stop.is_done for stop in stops)
    status, is_back = TrainRun.Status, run.roll_back_requested_at is not None
    goes_on = run.is_active and run.cancel_requested_at is None and operable
    return {
        "run": run,
        "stops": [(stop, made.get(stop.pk, [])) for stop in stops if stop.pk in inside],
        "hidden": len(stops) - len(inside),
        "done": done,
        "all": len(stops),
        "operable": operable,
        "may_cancel": goes_on,
        "may_halt": goes_on and run.status in {status.RUNNING, status.PAUSED, status.ROLLING_BACK},
        "may_go_on": goes_on and run.status in {status.PAUSED, status.HALTED},
        "may_roll_back": goes_on and not is_back and run.status in {status.RUNNING, status.PAUSED, status.HALTED},
        "may_choose": goes_on and run.status in {status.RUNNING, status.PAUSED, status.HALTED},
        "is_back": is_back,
        "decides": run.status == status.WAITING and not objection(user, run),
        "approvals": run.approvals.select_related("decided_by"),
    }


def _poll_address(pk: int, seen: str, given: str) -> str:
    return f"{reverse('train_poll', args=[pk])}?{urlencode({'seen': seen, 'pass': given})}"


@require_safe
@members_only
def train_run(request: Request, pk: int) -> HttpResponse:
    """One run: how far it is, each stop with its deployment, and what can be done."""
    run = _shown(request.user, pk)
    seen, follows = _revision(pk) or ("", False)
    poll = _poll_address(pk, seen, Pass(request, "train", pk).new())
    context = {**_context(request.user, run), "follows": follows, "poll": poll}
    return render(request, "deployer/trains/run.html", context)


@require_safe
def train_poll(request: Request, pk: int) -> HttpResponse:
    """The page again if anything of it has changed, asked in one statement; a good pass saves looking up the user."""
    given = request.GET.get("pass", "")
    is_known = Pass(request, "train", pk).is_good(given)
    if not is_known:
        if not request.user.is_authenticated:
            return HttpResponseClientRefresh()
        _shown(request.user, pk)
        given = Pass(request, "train", pk).new()
    found = _revision(pk)
    if found is None:
        raise Http404
    seen, follows = found
    changed = seen != request.GET.get("seen")
    if is_known and follows and not changed:
        return HttpResponse(status=204, headers={"Cache-Control": "no-store"})
    context: dict[str, Any] = {"follows": follows, "poll": _poll_address(pk, seen, given), "changed": changed}
    if changed:
        if not request.user.is_authenticated:
            return HttpResponseClientRefresh()  # the pass was still good, the session is not
        context |= _context(request.user, _shown(request.user, pk))
    return render(request, "deployer/trains/_poll.html", context)


def _act(asked: Callable[[Request, TrainRun], bool]) -> View:
    """A view that asks something of a run, for those who may operate all of it."""

    @require_POST
    @members_only
    def view(request: Request, pk: int) -> HttpResponse:
        run = _operated(request.user, pk)
        return _asked(request, run, asked(request, run))

    return view


train_continue = _act(lambda _request, run: acts.go_on(run))
train_halt = _act(lambda request, run: acts.halt(run, request.user.get_username()))


@form_page
@members_only
def train_roll_back(request: Request, pk: int) -> HttpResponse:
    """Put back what it has switched; a GET shows first what happens to each stop."""
    run = _operated(request.user, pk)
    if request.method == "POST":
        return _asked(request, run, acts.roll_back(run, request.user))
    if not _context(request.user, run)["may_roll_back"]:
        return _asked(request, run, done=False)
    made = _deployments_of(run)
    left = switched_by(made)
    rows = [(stop, _when_rolled_back(stop, stop.pk in left)) for stop in run.stops.select_related("project")]
    return render(request, "deployer/trains/roll_back.html", {"run": run, "rows": rows})


@form_page
@members_only
def train_cancel(request: Request, pk: int) -> HttpResponse:
    """Stop what is under way, and begin nothing more; a GET shows first what happens to each stop."""
    run = _operated(request.user, pk)
    if request.method == "POST":
        return _asked(request, run, acts.cancel(run))
    if not _context(request.user, run)["may_cancel"]:
        return _asked(request, run, done=False)
    active = {it.train_stop_id: it for it in _deployments_of(run) if it.is_active}
    rows = [(stop, _when_cancelled(stop, active.get(stop.pk))) for stop in run.stops.select_related("project")]
    return render(request, "deployer/trains/cancel.html", {"run": run, "rows": rows})


def _asked(request: Request, run: TrainRun, done: bool) -> HttpResponse:
    """Back to the run, with a word where what was asked for was not to be had any more."""
    if not done:
        messages.warning(request, _("The train has come to another state meanwhile: nothing was done."))
    return redirect(run)


def _deployments_of(run: TrainRun) -> Any:
    return Deployment.objects.filter(train_stop__run=run).defer("plan").order_by("pk")


def _when_rolled_back(stop: TrainStop, is_switched: bool) -> str:
    """What becomes of a stop when its train is rolled back."""
    if stop.status == TrainStop.Status.WAITING:
        return _("is not launched")
    if stop.is_at_work and not stop.keeps_release:
        return _("goes on to its end; what it has switched then is put back")
    if stop.is_at_work:
        return _("goes on to its end; stays as it is")
    return _("is put back on what its servers had before") if is_switched else _("has switched nothing; stays as it is")


def _when_cancelled(stop: TrainStop, active: Deployment | None) -> str:
    """What becomes of a stop when its train is cancelled."""
    if active is not None:
        return _("deployment #%d is cancelled") % active.pk
    return _("is not launched") if stop.status == TrainStop.Status.WAITING else _("stays as it is")


def _stop_of(run: TrainRun, number: int) -> TrainStop:
    stop = run.stops.filter(position=number).first()
    if stop is None:
        raise Http404
    return stop


@require_POST
@members_only
def train_without(request: Request, pk: int, number: int) -> HttpResponse:
    """Go on without a stop."""
    run = _operated(request.user, pk)
    return _asked(request, run, acts.go_without(run, _stop_of(run, number), request.user.get_username()))


@require_POST
@members_only
def train_again(request: Request, pk: int, number: int) -> HttpResponse:
    """Launch a stop that has failed once more."""
    run = _operated(request.user, pk)
    return _asked(request, run, acts.launch_again(run, _stop_of(run, number)))


@require_POST
@members_only
def train_decide(request: Request, pk: int) -> HttpResponse:
    """Approve or reject a run, for those who are asked about one of its stops."""
    run = _shown(request.user, pk)
    decision = request.POST.get("decision", "")
    if decision not in TrainApproval.Decision.values:
        raise Http404
    try:
        decide(run, request.user, decision, request.POST.get("reason", ""))
    except CannotDecideError as refusal:
        messages.warning(request, str(refusal))
    else:
        drive(run.pk)
    return redirect(run)
