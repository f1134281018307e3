"""Actions on a deployment: cancel, continue, retry, roll back, launch again."""

from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import HttpResponseClientRedirect

from deployer.board.coming import coming, taken_back
from deployer.board.comparison import differing_around
from deployer.board.ways_back import in_short, ways_back_after
from deployer.gates.asking import ask
from deployer.launching.again import (
    chosen_servers,
    former_deployment,
    request_to_retry,
    request_to_roll_back,
    with_former_values,
)
from deployer.launching.answers import answer_sentence, cancel_sentence, continue_sentence, no_way_back
from deployer.launching.asked import LaunchRequest
from deployer.launching.gated import case_of
from deployer.launching.launch import launch
from deployer.launching.moves import answer, cancel, go_on, open_question
from deployer.launching.rules import Accepted, LaunchRefusedError, check_launch
from deployer.models import Answer, ConfigState, Deployment, StepRun, Target
from deployer.plan import Plan
from deployer.releases.versions import running_in
from deployer.web.alike import told
from deployer.web.deployment import Pause, shown
from deployer.web.forms import CHOSEN_OF_PAUSES, LaunchForm
from people.access import Request, members_only
from people.rights import may
from people.roles import Action
from projects.steps import Launched, Moment
from servers.models import Server


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def deployment_cancel(request: Request, pk: int) -> HttpResponse:
    """Ask a deployment to stop; with ``force``, also end the scripts running on its servers.

    A GET shows first what happens to each server.
    """
    it = shown(request.user, pk, Action.OPERATE)
    if request.method == "POST":
        asked = cancel(it, force="force" in request.POST)
        say = messages.info if asked and not it.force_requested_at else messages.warning
        say(request, cancel_sentence(it, asked))
        return redirect(it)
    if not it.is_active:
        messages.warning(request, cancel_sentence(it, asked=False))
        return _back(request, it)
    targets = list(it.targets.defer("proof", "evidence"))
    goes_back = _goes_back(it, targets)
    running = list(it.step_runs.filter(status=StepRun.Status.RUNNING))
    moments = {run.target_id: run.moment for run in running if run.target_id is not None}
    changed = _changed(it)
    rows = [(target, *_when_cancelled(target, goes_back, moments.get(target.pk, ""), changed)) for target in targets]
    shown_rows = told(rows, lambda row: row[0].server_name, lambda row: (row[0].status, *row[1:]))
    context = {"deployment": it, "told": shown_rows}
    context["on_platform"] = next((run for run in running if run.is_on_platform), None)
    return render(request, "deployer/cancel.html", context)


def _goes_back(it: Deployment, targets: list[Target]) -> bool:
    """Whether more servers have failed than allowed: then those with the new release are put back, cancelled or not."""
    if not it.has_plan:
        return False
    plan = Plan.from_json(cast(dict[str, Any], it.plan))
    is_automatic = plan.auto_rollback and not plan.guided_failure
    return is_automatic and sum(target.status in Target.FAILURES for target in targets) > plan.max_failures


def _when_cancelled(target: Target, goes_back: bool, moment: str, changed: Collection[int | None]) -> tuple[str, str]:
    """The outcome for a server when its deployment is cancelled, and when it is cancelled by force.

    ``moment`` is that of the step that runs there, if one does; ``changed`` are the servers that were changed.
    """
    status = Target.Status
    if moment in {Moment.PREPARE, Moment.BEFORE_ALL, Moment.BEFORE}:
        ends = _("its step is ended, with every process that it started; steps after are run")
        return ends, ends
    if moment:
        return _("finishes its step"), _("its step is ended, with every process that it started")
    has_moved = target.undo_key or target.server_id in changed
    if goes_back and has_moved and target.status not in {status.ROLLED_BACK, status.SKIPPED}:
        if target.deployment.keeps_release:
            return _("gets its config files of before, and is restarted"), _("its config files are put back")
        if not target.release_before:
            return (stays := _("has no release to go back to; stays as it is")), stays
        return _("is put back on its previous release"), _("is put back; the script that does so is ended")
    if target.status in Target.ENDED:
        stays = _("has ended; stays as it is")
        return stays, stays
    if target.status == status.STAGING:
        ends = _("its upload is stopped; the live release stays live")
        return ends, ends
    if target.status == status.CHECKING:
        return _("is verified to the end"), _("its health checks are stopped; its script had already ended")
    if target.status in {status.SWITCHING, *target.AT_ITS_SCRIPT}:
        return _("finishes its restart and is verified"), _("its script is ended, with every process that it started")
    return (left := _("is not touched")), left


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def deployment_continue(request: Request, pk: int) -> HttpResponse:
    """Continue a paused deployment; a GET shows first what will happen."""
    it = shown(request.user, pk, Action.OPERATE)
    if request.method == "POST":
        continued = go_on(it)
        say = messages.success if continued else messages.warning
        say(request, continue_sentence(it, continued))
        return redirect(it)
    paused = Pause.of(it, list(it.targets.defer("proof", "evidence")))
    if paused is None:
        messages.warning(request, continue_sentence(it, continued=False))
        return _back(request, it)
    coming = [(number, target) for number, servers in paused.batches for target in servers]
    context = {"deployment": it, "paused": paused}
    context["told"] = told(coming, lambda row: row[1].server_name, lambda row: row[0])
    return render(request, "deployer/continue.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def deployment_abort(request: Request, pk: int) -> HttpResponse:
    """Stop a deployment and put back what it has switched; a GET shows first what that is."""
    it = shown(request.user, pk, Action.OPERATE)
    if why := no_way_back(it):
        messages.warning(request, why)
        return _back(request, it)
    if request.method == "POST":
        asked = cancel(it, roll_back=True)
        (messages.info if asked else messages.warning)(request, cancel_sentence(it, asked))
        return redirect(it)
    if not it.is_active:
        messages.warning(request, cancel_sentence(it, asked=False))
        return _back(request, it)
    changed = _changed(it)
    rows = [(target, _when_aborted(target, changed)) for target in it.targets.defer("proof", "evidence")]
    shown_rows = told(rows, lambda row: row[0].server_name, lambda row: (row[0].status, row[1]))
    return render(request, "deployer/abort.html", {"deployment": it, "told": shown_rows})


def _changed(it: Deployment) -> set[int | None]:
    """The servers that it has switched or, where it keeps the release, whose config files it has replaced."""
    if not it.keeps_release:
        return {*it.targets.exclude(release_after="").values_list("server", flat=True)}
    return ConfigState.changed_by(it.pk)


def _when_aborted(target: Target, changed: Collection[int | None]) -> str:
    """The outcome for a server when its deployment is stopped and rolled back."""
    status = Target.Status
    if target.status == status.ROLLED_BACK:
        return _("has ended; stays as it is")
    if target.server_id in changed and target.deployment.keeps_release:
        return _("gets its config files of before, and is restarted")
    if target.server_id in changed:
        if not target.release_before:
            return _("has no release to go back to; stays as it is")
        return _("is put back on %s") % target.release_before
    if target.status in {status.SWITCHING, status.RESTARTING, status.CHECKING}:
        return _("finishes its turn, and is put back")
    return _("has ended; stays as it is") if target.status in Target.ENDED else _("is not touched")


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def deployment_answer(request: Request, pk: int) -> HttpResponse:
    """Choose what comes after failures; a GET shows them beside the choices."""
    it = shown(request.user, pk, Action.OPERATE)
    question = open_question(it)
    if request.method == "POST" and question is not None:
        won = answer(question, request.POST.get("answer", ""), request.POST.get("token", ""), request.user)
        it.refresh_from_db(fields=["paused_at", "asked_at", "status"])
        (messages.success if won else messages.warning)(request, answer_sentence(it, question, won))
        return redirect(it)
    if question is None:
        messages.warning(request, answer_sentence(it, None, won=False))
        return _back(request, it)
    choices = [(choice, Answer(choice).label) for choice in question.choices]
    context = {"deployment": it, "question": question, "choices": choices}
    return render(request, "deployer/answer.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def deployment_retry(request: Request, pk: int) -> HttpResponse:
    """Launch the same again for the servers that did not succeed."""
    return _launch_from(request, shown(request.user, pk, Action.OPERATE), request_to_retry)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def deployment_rollback(request: Request, pk: int) -> HttpResponse:
    """Launch the release that was live before."""
    return _launch_from(request, shown(request.user, pk, Action.OPERATE), request_to_roll_back)


def _launch_from(request: Request, earlier: Deployment, request_for: Callable[..., LaunchRequest]) -> HttpResponse:
    """Launch a retry or rollback of an earlier deployment; a GET shows first what will happen and where."""
    try:
        asked = request_for(earlier, created_by=request.user, trigger=Deployment.Trigger.WEB)
        if request.method == "POST":
            chosen = LaunchForm(request.POST, user=request.user)
            if not chosen.is_valid():
                raise LaunchRefusedError(" ".join(str(why) for errors in chosen.errors.values() for why in errors))
            values = chosen.cleaned_data
            asked = with_former_values(asked) if values["former_values"] and asked.rollback_from else asked
            return redirect(launch(replace(asked, queue=values["queue"], override=values["override"])))
        accepted = check_launch(asked)
        answer = ask(case_of(asked, accepted))
    except LaunchRefusedError as refusal:
        messages.error(request, _with_link(refusal))
        return _back(request, earlier)
    earlier_targets = {target.server_id: target for target in earlier.targets.all()}
    running = running_in([asked.project]).get(asked.project.pk, {})
    rows = [
        (server, accepted.batches.get(server), earlier_targets.get(server.pk), running.get(server.pk, ""))
        for server in accepted.servers
    ]
    context = {
        "deployment": earlier,
        "asked": asked,
        "is_restart_only": asked.is_restart_only,
        "told": told(rows, lambda row: row[0].name, _same_for_launch),
        "count": len(accepted.active),
        "parts": asked.parts,
        "gates": answer,
        **_former_values(asked, accepted),
        "may_override": may(request.user, Action.ADMINISTER, asked.project),
        **_steps(asked, accepted),
    }
    return render(request, "deployer/confirm.html", context)


def _steps(asked: LaunchRequest, accepted: Accepted) -> dict[str, Any]:
    """The steps that it runs, and the way back from it."""
    it, plan = asked.retry_of, accepted.plan
    launched = it.launched_as if it else Launched.ROLLBACK
    steps = coming(plan, launched, it, asked.release) + taken_back(asked.project, launched, asked.release)
    running = running_in([asked.project]).get(asked.project.pk, {})
    ways = {}
    if not asked.keeps_release:
        ways = ways_back_after(asked.project, accepted.active, running, plan.steps_at(Moment.BEFORE_ALL, launched))
    return {"coming": steps, "ways": in_short(ways)}


def _former_values(asked: LaunchRequest, accepted: Accepted) -> dict[str, Any]:
    """What of today's values, files and steps differs from those that went with the release that a rollback goes to."""
    former = former_deployment(asked) if asked.rollback_from else None
    if former is None:
        return {}
    differing = differing_around(Plan.from_json(cast(dict[str, Any], former.plan)), accepted.plan)
    return {"former": former, "differing": differing}


def _same_for_launch(row: tuple[Server, int | None, Target | None, str]) -> Hashable:
    """What a dialog says of a server: its batch, how it ended before and why, and which release it runs."""
    _server, batch, target, version = row
    return (batch, version, target.status, target.reason) if target else (batch, version)


def _back(request: Request, it: Deployment) -> HttpResponse:
    """The page of a deployment in place of a dialog that has nothing to ask."""
    return HttpResponseClientRedirect(it.get_absolute_url()) if request.htmx else redirect(it)


def _with_link(refusal: LaunchRefusedError) -> str:
    """The words of a refusal, with a link to the deployment in the way."""
    if refusal.blocking is None:
        return refusal.message
    return format_html(
        "{} {}", refusal.message, render_to_string("deployer/_watch.html", {"blocking": refusal.blocking})
    )


@require_safe
@members_only
def deployment_again(request: Request, pk: int) -> HttpResponse:
    """The launch form, filled in as this deployment was launched."""
    it = shown(request.user, pk, Action.OPERATE)
    plan = cast(dict[str, Any], it.plan) if it.has_plan else {}
    chosen: dict[str, Any] = {
        "type": it.deployment_type,
        "group": list(it.server_groups.values_list("pk", flat=True)),
    }
    if picked := chosen_servers(it):
        chosen["server"] = sorted(picked)
    if it.branch:
        chosen["branch"] = it.branch
    elif it.release:
        chosen["release"] = it.release.version  # it was uploaded: no branch leads to it
    for name in ("batches", "max_failures", *CHOSEN_OF_PAUSES):  # adjusted for that launch only
        if name in plan and plan[name] != getattr(it.project, name):
            chosen[name] = plan[name]
    if it.rebuild:
        chosen["rebuild"] = 1
    if it.has_plan:  # the answer of a secret stands in no address
        answers = Plan.from_json(plan).answers
        chosen |= {f"{LaunchForm.ANSWER}{each.name}": each.value for each in answers if not each.is_secret}
    return redirect(f"{reverse('launch', args=[it.project_id])}?{urlencode(chosen, doseq=True)}")
