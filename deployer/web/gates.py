"""Gates: what is closed, what is required, who waits for whom; and the decisions of people."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db import IntegrityError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from deployer.gates import deciding, keeping
from deployer.gates.forms import FreezeForm, GateForm, LockForm, ReasonForm, RuleForm
from deployer.gates.line import count_ahead
from deployer.gates.proof import proof_of
from deployer.gates.required import Required
from deployer.gates.windows import holds
from deployer.models import Approval, Deployment, Freeze, GateRule, Hold, Lock, Release
from deployer.queue.turn import call_up
from deployer.trains import approving
from deployer.web.deployment import shown
from pages.forms import as_sent
from people.access import Request, find, members_only, needs_somewhere
from people.factors import owes_one_in
from people.models import User
from people.record import delete
from people.rights import NotAllowedError, insist, may
from people.roles import EVERYWHERE, Action

#: For so long a lock that was lifted, and an override, are shown.
REMEMBERED = timedelta(days=7)
#: Deployments that stand in line, and what was overridden, that the page shows.
SHOWN = 50


@require_safe
@members_only
def gates(request: Request) -> HttpResponse:
    """What waits, what is closed, and what is required, in the places that the user sees."""
    user, now = request.user, timezone.now()
    locks = (
        Lock.objects.reached_by(user)
        .filter(project__archived_at=None)
        .select_related("project", "made_by", "lifted_by")
    )
    freezes = Freeze.objects.reached_by(user).filter(project__archived_at=None).select_related("project", "made_by")
    rules = GateRule.objects.reached_by(user).filter(project__archived_at=None)
    rules = rules.select_related("project").prefetch_related("approvers")
    seen, waiting = Deployment.objects.reached_by(user), deciding.waiting_for(user)
    overridden = Approval.objects.filter(deployment__in=seen, decision=Approval.Decision.OVERRIDDEN)
    overridden = overridden.filter(decided_at__gte=now - REMEMBERED)
    in_line = list(seen.in_line().exclude(pk__in=waiting.values("pk")).listed()[:SHOWN])
    count_ahead(in_line)
    context = {
        "waiting": waiting.listed()[:SHOWN],
        "trains": approving.waiting_for(user)[:SHOWN],
        "in_line": in_line,
        "hold": Hold.objects.select_related("made_by").first(),
        "may_hold": deciding.may_hold(user),
        "locks": [(lock, _may_lift(user, lock)) for lock in locks.closed()],
        "lifted": locks.filter(lifted_at__gte=now - REMEMBERED).exclude(lifted_by=user)[:SHOWN],
        "freezes": [(freeze, holds(freeze, now), may(user, Action.EDIT, freeze)) for freeze in freezes],
        "rules": [(rule, may(user, Action.ADMINISTER, rule)) for rule in rules],
        "overridden": overridden.filter(deployment__in=seen).select_related("deployment__project", "decided_by")[
            :SHOWN
        ],
    }
    return render(request, "deployer/gates.html", context)


def _may_lift(user: User, lock: Lock) -> bool:
    return may(user, Action.OPERATE if lock.made_by_id == user.pk else Action.EDIT, lock)


@require_http_methods(["GET", "HEAD", "POST"])
@needs_somewhere(Action.ADMINISTER)
def hold(request: Request) -> HttpResponse:
    """Put everything new on hold."""
    insist(request.user, Action.ADMINISTER, EVERYWHERE)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        keeping.put_on_hold(form.cleaned_data["reason"], request.user)
        messages.warning(request, _("Everything new is on hold."))
        return redirect("gates")
    lead = _("No deployment begins until the hold is lifted. Those that have begun go on.")
    return _form(request, form, _("Put everything on hold"), lead=lead, danger=_("Put on hold"))


@require_POST
@members_only
def hold_lift(request: Request) -> HttpResponse:
    """Let new deployments begin again."""
    if keeping.lift_hold(request.user):
        messages.success(request, _("The hold is lifted."))
    call_up()
    return redirect("gates")


@require_http_methods(["GET", "HEAD", "POST"])
@needs_somewhere(Action.OPERATE)
def lock_add(request: Request) -> HttpResponse:
    """Lock an environment or a project."""
    form = _gate_form(LockForm, request)
    if request.method == "POST" and form.is_valid():
        keeping.close_lock(form.instance, request.user)
        messages.success(request, _("%s is locked.") % form.instance.where)
        return redirect("gates")
    lead = _("You can still launch there by hand. Everybody else, and all automation, waits until it is lifted.")
    return _form(request, form, _("Lock a place"), lead=lead)


@require_POST
@members_only
def lock_lift(request: Request, pk: int) -> HttpResponse:
    """Open a lock."""
    lock = find(request.user, Lock.objects.select_related("project", "made_by"), pk=pk)
    lifted = keeping.lift_lock(lock, request.user)
    messages.add_message(
        request, messages.SUCCESS if lifted else messages.WARNING, keeping.lifted_sentence(lock, lifted)
    )
    call_up()
    return redirect("gates")


@require_http_methods(["GET", "HEAD", "POST"])
@needs_somewhere(Action.EDIT)
def freeze_add(request: Request) -> HttpResponse:
    """A new window of time."""
    return _kept(request, _gate_form(FreezeForm, request), _("Add a freeze"))


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def freeze_edit(request: Request, pk: int) -> HttpResponse:
    """Change a window of time."""
    freeze = find(request.user, Freeze.objects.select_related("project"), Action.EDIT, pk=pk)
    return _kept(request, _gate_form(FreezeForm, request, freeze), _("Edit the freeze"))


@require_POST
@members_only
def freeze_delete(request: Request, pk: int) -> HttpResponse:
    """Take a window of time away."""
    return _removed(request, find(request.user, Freeze.objects.select_related("project"), Action.EDIT, pk=pk))


@require_http_methods(["GET", "HEAD", "POST"])
@needs_somewhere(Action.ADMINISTER)
def rule_add(request: Request) -> HttpResponse:
    """Require something in a place."""
    return _kept(request, _gate_form(RuleForm, request), _("Require an approval or a proof"))


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def rule_edit(request: Request, pk: int) -> HttpResponse:
    """Change what is required."""
    rule = find(request.user, GateRule.objects.select_related("project"), Action.ADMINISTER, pk=pk)
    return _kept(request, _gate_form(RuleForm, request, rule), _("What %s requires") % rule.where)


@require_POST
@members_only
def rule_delete(request: Request, pk: int) -> HttpResponse:
    """Require nothing there any more."""
    return _removed(request, find(request.user, GateRule.objects.select_related("project"), Action.ADMINISTER, pk=pk))


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def deployment_decide(request: Request, pk: int) -> HttpResponse:
    """Approve or reject what waits; a GET shows first what it is, and what staging has shown of it."""
    it = shown(request.user, pk)
    if deciding.has_no_voice(request.user, it):
        raise NotAllowedError(Action.OPERATE, deciding.who_decides(it))
    if owes_one_in(request.user, it.environment):  # an approver may have no role, of which one is demanded elsewhere
        messages.warning(request, _("Set up a second factor first: what you decide about changes production."))
        return redirect("mfa_index")
    if request.method == "POST":
        decide = {"approve": deciding.approve, "reject": deciding.reject}
        return _decided(request, it, next((decide[name] for name in decide if name in request.POST), _undecided))
    if objection := deciding.objection(request.user, it):
        messages.warning(request, objection)
        return redirect(it)
    required = Required.of(it.project)
    hours = None if it.keeps_release else required.proof_hours
    context = {
        "deployment": it,
        "targets": [target for target in it.targets.all() if not target.was_left_out],
        "proof": proof_of(it.release, it.project, hours) if hours is not None else None,
        "proof_hours": hours,
    }
    return render(request, "deployer/decide.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def deployment_override(request: Request, pk: int) -> HttpResponse:
    """Set aside what stands before a deployment that waits, as an admin, with a reason."""
    it = shown(request.user, pk, Action.ADMINISTER)
    if request.method == "POST":
        return _decided(request, it, deciding.override)
    if not it.is_in_line:
        messages.warning(request, _("Deployment #%d does not wait at a gate.") % it.pk)
        return redirect(it)
    return render(request, "deployer/override.html", {"deployment": it})


def _undecided(_it: Deployment, _user: User, _reason: str) -> None:
    raise deciding.CannotDecideError(_("Choose whether you approve or reject it."))


def _decided(request: Request, it: Deployment, decide: Callable[[Deployment, User, str], None]) -> HttpResponse:
    reason = request.POST.get("reason", "").strip()
    form = ReasonForm({"reason": reason or "-"})
    try:
        if not form.is_valid():
            raise deciding.CannotDecideError(" ".join(map(str, form.errors["reason"])))
        decide(it, request.user, reason)
    except deciding.CannotDecideError as error:
        messages.error(request, str(error))
        return redirect(it)
    call_up(it.project_id)
    messages.success(request, _("Your decision about #%d is written down.") % it.pk)
    return redirect(it)


@require_POST
@members_only
def release_mark(request: Request, pk: int, release: int) -> HttpResponse:
    """Mark a release as bad, with a reason; or take that back."""
    it = find(request.user, Release.objects.select_related("project"), Action.OPERATE, pk=release, project=pk)
    it.project.insist_on_current()
    form = ReasonForm(request.POST)
    if "unmark" in request.POST:
        keeping.unmark(it, request.user)
        messages.success(request, _("Release %s can be deployed again.") % it)
    elif form.is_valid():
        keeping.mark_bad(it, form.cleaned_data["reason"], request.user)
        messages.warning(request, _("Release %s is marked as bad: nobody deploys it any more.") % it)
    else:
        messages.error(request, _("Say why release %s is bad.") % it)
    return redirect("releases", pk)


def _gate_form(kind: type[GateForm], request: HttpRequest, instance: Model | None = None) -> GateForm:
    user: Any = request.user
    options = {"instance": instance, "user": user, "initial": {"place": request.GET.get("place", "")}}
    return as_sent(kind, request.POST, **options)


def _kept(request: Request, form: GateForm, title: str) -> HttpResponse:
    """Write a freeze or a rule; those who may change it where it was may do so where it will be, by its choices."""
    if isinstance(form.instance, Freeze) and form.instance.pk is None:
        form.instance.made_by = request.user
    if request.method == "POST":
        try:
            kept = form.keep()
        except IntegrityError:
            form.add_error("place", _("Something is required there already: change that."))
        else:
            if kept:
                messages.success(request, _("Saved."))
                call_up()
                return redirect("gates")
    return _form(request, form, title)


_GONE = gettext_lazy("It is taken away: %s")


def _removed(request: Request, gate: Freeze | GateRule) -> HttpResponse:
    told = _GONE % gate
    delete(gate)
    messages.success(request, told)
    call_up()
    return redirect("gates")


def _form(request: Request, form: Any, title: str, **more: Any) -> HttpResponse:
    return render(request, "deployer/gate_form.html", {"form": form, "title": title, "back": reverse("gates"), **more})
