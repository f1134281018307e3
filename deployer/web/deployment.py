"""One deployment as it goes: its head, its servers, its log."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import BigIntegerField, Exists, OuterRef, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.http import base36_to_int
from django.utils.text import slugify
from django.utils.translation import get_language, gettext_noop
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRefresh

from deployer.board.folds import Folder, State, keys_of, keys_to_failure, path_to_running, states_of, tree_of
from deployer.gates.deciding import may_override, objection
from deployer.launching.again import request_to_retry, request_to_roll_back
from deployer.launching.asked import LaunchRequest
from deployer.launching.moves import open_question
from deployer.launching.rules import LaunchRefusedError, check_launch
from deployer.log.reading import LOG_ROWS, LogRow, News, seen
from deployer.log.searching import Found, last_lines
from deployer.log.stored import StoredLog
from deployer.log.text import text_of
from deployer.log.wanted import Wanted
from deployer.models import Approval, Deployment, DeploymentQuerySet, LogLine, StepRun, Target
from deployer.plan import Part, Plan, parts_of
from deployer.web.downloads import download
from deployer.web.drawing import Viewer, drawn_once
from deployer.web.forms import LogFilter
from deployer.web.request import Pass, fragment
from deployer.web.waiting import turn_of
from deployer.web.ways import waits_for_a_person, ways_of
from people.access import Request, find, members_only
from people.models import User
from people.record import Act, actor, record
from people.rights import NotAllowedError, Person, may
from people.roles import Action
from projects.steps import Moment
from servers.models import Server

#: Rows before a line that is asked for by its number.
LOG_ROWS_BEFORE = 50
#: Errors that are counted.
ERRORS_COUNTED = 1000
#: Where a deployment has more servers than this, each is a square; a line is that of the chosen one alone and of those
#: that have failed, of so many.
MANY, FAILED_SHOWN = 19, 60
#: By these signs a poll says which state of each server its page shows.
_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
#: For more servers than this, an address would be too long to say so: they come again whenever one has changed.
SIGNED = 2500
#: The folds of what comes before the servers' turns: each change may be one of theirs.
_PHASES = frozenset({"clone", "build", "upload"})
#: Runs of steps that are those of no single server: they are on the platform, or once for all servers.
_FOR_ALL = Q(target=None) | Q(moment__in=StepRun.ONCE)
#: Seconds for which what was drawn of a change is good for all who ask for the same.
CHANGE_HOLDS = 10


def shown(user: Person, pk: int, action: Action = Action.SEE) -> Deployment:
    """The deployment of a page with which ``user`` may do this. Raises as `find` does."""
    rows = Deployment.objects.select_related("project", "created_by", "retry_of", "rollback_from", "release")
    rows = rows.annotate(
        is_decided=Exists(Approval.objects.filter(deployment=OuterRef("pk"))),
        ran_steps=Exists(StepRun.objects.filter(deployment=OuterRef("pk"))),
    )
    return find(user, rows.defer("plan", "retry_of__plan", "rollback_from__plan"), action, pk=pk)


def _log(
    it: Any, lines: Sequence[Any], targets: list[Target], *, at: int = 0, wanted: LogFilter | None = None
) -> dict[str, Any]:
    """The data of a log's rows in their folds: how each has gone, and which are open.

    Those around the line ``at``; where only some are ``wanted``, all; else that of the first error of one that has
    failed, or of what goes on. ``it`` is a deployment as `shown`.
    """
    names = {target.pk: target.server_name for target in targets}
    runs = _runs_on(it, {line.target_id for line in lines})
    folder, states = Folder(it, targets, runs), states_of(it, targets, runs)
    rows = [LogRow.of(line, names.get(line.target_id or 0, "")) for line in lines]
    folds = [folder.folds(line.target_id, line.timestamp) for line in lines]
    tree = tree_of(rows, folds)
    opened: set[str] = set()
    if at:
        inside = next((inside for row, inside in zip(rows, folds, strict=True) if row.number >= at), ())
        opened = {fold.key for fold in inside}
    elif it.is_active:
        opened = {fold.key for fold in path_to_running(tree, states)}
    elif _ended_badly(it):
        opened = keys_to_failure(tree, rows, folds, states)
    is_whole = wanted is not None and bool(wanted.chosen)
    return {"rows": rows, "tree": tree, "states": states, "opened": None if is_whole else opened}


def _found(it: Deployment, wanted: LogFilter, before: int) -> Found:
    """The last lines before an id that the filter wants."""
    return last_lines(StoredLog.of(it), wanted.wanted, before)


def _around(log: StoredLog, newest: Any, number: int) -> list[Any]:
    """The lines around the one of that number; ``newest`` is the last one."""
    return log.from_number(max(number - LOG_ROWS_BEFORE, 1), newest, LOG_ROWS)


def _targets_of(deployment: Deployment) -> list[Target]:
    """The servers without what is long of them: `_whole` reads that where it is shown."""
    return list(deployment.targets.defer("proof", "evidence"))


def _whole(
    it: Any, targets: list[Target], chosen: Mapping[str, str], shown: Iterable[Target] | None = None
) -> dict[str, Any]:
    """The ids of those that are shown whole, with what is long of them read; of ``shown`` if it is given.

    And the runs of steps for all servers, which are read with those of each; ``it`` is a deployment as `shown`.
    """
    ids = {target.pk for target in targets}
    if len(targets) > MANY:
        failed = [target.pk for target in targets if target.error or target.has_failed]
        ids = {*failed[:FAILED_SHOWN], *(target.pk for target in targets if str(target.pk) == chosen.get("server"))}
    if shown is not None:
        ids &= {target.pk for target in shown}
    long = Target.objects.filter(pk__in=ids).values_list("pk", "proof", "evidence")
    found = {pk: {"proof": proof, "evidence": evidence} for pk, proof, evidence in long}
    runs: dict[int | None, list[StepRun]] = {}
    of_all: list[StepRun] = []
    for run in it.step_runs.filter(Q(target__in=ids) | _FOR_ALL) if it.ran_steps else ():
        runs.setdefault(run.target_id, []).append(run)
        if run.target_id is None or run.moment in StepRun.ONCE:
            of_all.append(run)
    for target in targets:
        target.__dict__ |= found.get(target.pk, {}) | {"runs_of_steps": runs.get(target.pk, [])}
    bad = {StepRun.Status.FAILED, StepRun.Status.UNKNOWN}
    here = [run for run in of_all if run.target_id is None and run.status in bad]
    return {"whole": ids, "runs_for_all": of_all, "failed_here": here}


def _signs(targets: list[Target]) -> str:
    """The state of each server as one sign: a change makes it the next one."""
    if len(targets) > SIGNED:
        return ""
    return "".join(_SIGNS[target.revision % len(_SIGNS)] for target in targets)


def _changed(targets: list[Target], signs: str) -> list[Target] | None:
    """Those that are not as ``signs`` say; nothing where that cannot be told, and all of them are sent."""
    if len(signs) != len(targets):
        return None
    return [target for target, old, new in zip(targets, signs, _signs(targets), strict=True) if old != new]


def _head(user: User, deployment: Deployment, targets: list[Target]) -> dict[str, Any]:
    """The data of the head of the page and its table of servers, and what ``user`` may do from there."""
    ended = not deployment.is_active
    operable = may(user, Action.OPERATE, deployment)
    can_retry = ended and any(target.status != Target.Status.SUCCESS and target.server_id for target in targets)
    can_roll_back = (
        ended and not deployment.keeps_release and any(target.release_before and target.server_id for target in targets)
    )
    retry_refusal = _refusal(user, deployment, request_to_retry) if can_retry else ""
    rollback_refusal = _refusal(user, deployment, request_to_roll_back) if can_roll_back else ""
    head = {
        "deployment": deployment,
        "operable": operable,
        "can_launch": operable and not deployment.project.is_archived and may(user, Action.OPERATE, deployment.project),
        "sees_project": may(user, Action.SEE, deployment.project),
        "editable": not deployment.project.is_archived and may(user, Action.EDIT, deployment.project),
        "targets": targets,
        "is_many": len(targets) > MANY,
        "groups": deployment.server_groups.all(),
        "seen": seen(deployment, targets),
        "paused": Pause.of(deployment, targets),
        "question": open_question(deployment),
        "can_abort": operable and _can_abort(deployment),
        "is_untouched": is_untouched(deployment, targets),
        "can_retry": can_retry and retry_refusal is not None,
        "retry_refusal": retry_refusal or "",
        # The same commit would most likely not build again: launching again takes the newest commit of the branch.
        "build_failed": ended
        and not deployment.keeps_release
        and bool(deployment.commit_hash)
        and deployment.release_id is None,
        "can_roll_back": can_roll_back and rollback_refusal is not None,
        "rollback_refusal": rollback_refusal or "",
        **_gate(user, deployment),
        "turn": turn_of(deployment),
        "has_previous": ended and before(deployment).reached_by(user).exists(),
    }
    head["ways"], head["more_ways"] = ways_of(deployment, head)
    return head | {"waits_for_person": head["waits_for_you"] or (operable and waits_for_a_person(deployment))}


def _can_abort(it: Deployment) -> bool:
    """Whether it may be stopped with what it has switched put back: there is a way back, and nobody has asked yet."""
    is_rolling_out = it.is_active and it.status == Deployment.Status.DEPLOYING
    return is_rolling_out and it.roll_back_requested_at is None and it.cancel_requested_at is None


def _gate(user: User, it: Any) -> dict[str, Any]:
    """What was decided about a deployment that is `shown`, and what ``user`` may decide as long as it waits."""
    return {
        "approvals": it.approvals.select_related("decided_by") if it.is_decided else (),
        "waits_for_you": it.is_in_line and not objection(user, it),
        "may_override": it.is_in_line and may_override(user, it),
    }


def _refusal(user: User, earlier: Deployment, request_for: Callable[..., LaunchRequest]) -> str | None:
    """Why a retry or a rollback is refused whenever it is asked for; that another one is running is for now alone.

    Empty where it is not, None where ``user`` has no right to it: nothing is said of it then.
    """
    try:
        check_launch(request_for(earlier, created_by=user, trigger=Deployment.Trigger.WEB))
    except NotAllowedError:
        return None
    except LaunchRefusedError as refusal:
        return refusal.message
    return ""


def _parts(it: Deployment, targets: Iterable[Target]) -> list[Part]:
    """The groups of which it has left servers out, as they were at its launch."""
    if not it.has_plan:
        return []
    plan = Plan.from_json(cast(dict[str, Any], it.plan))
    went = {target.server_id for target in targets if target.server_id}
    if missing := {pk for members in plan.groups.values() for pk in members} - went:
        # One that is deleted by now was part of it: its name is kept, its number is not.
        went |= missing - {*Server.objects.filter(pk__in=missing).values_list("pk", flat=True)}
    return parts_of(plan.groups, went)


def before(it: Deployment) -> DeploymentQuerySet:
    """The deployments of the same project before one, the newest first."""
    return Deployment.objects.filter(project=it.project_id, pk__lt=it.pk).order_by("-id")


def is_untouched(deployment: Deployment, targets: Iterable[Target]) -> bool:
    """Whether it is over, has not succeeded, and was about to change something on no server, by a step or itself."""
    is_over = not deployment.is_active and deployment.status != Deployment.Status.SUCCESS
    if not is_over or any(target.begun_at is not None for target in targets):
        return False
    runs = deployment.step_runs.exclude(moment=Moment.PREPARE).exclude(status=StepRun.Status.SKIPPED)
    return not runs.exists()


@dataclass(frozen=True)
class Pause:
    """Where a rollout waits: the last batch that was begun, and the servers of the batches after it."""

    after: int
    batches: list[tuple[int, list[Target]]]

    @classmethod
    def of(cls, deployment: Deployment, targets: list[Target]) -> "Pause | None":
        """The pause of a deployment; nothing if it does not wait."""
        if deployment.paused_at is None or deployment.asked_at is not None:
            return None
        waiting = sorted((t for t in targets if t.status not in Target.ENDED), key=lambda t: t.batch)
        batches = [(number, list(members)) for number, members in groupby(waiting, key=lambda t: t.batch)]
        begun = [t.batch for t in targets if t.status in Target.ENDED and t.batch < (batches[0][0] if batches else 1)]
        return cls(max(begun, default=1), batches)


def _number(request: HttpRequest, name: str) -> int:
    """A whole number of the address; 0 if it is missing or makes no sense."""
    text = request.GET.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 19 else 0


@require_safe
@members_only
def deployment(request: Request, pk: int) -> HttpResponse:
    """One deployment: its head, the state of each server, and the end of its log, filtered if asked for.

    ``at`` is the number of a line: then the log is shown around it, and does not follow.
    """
    it = shown(request.user, pk)  # before the rows: once it has ended, no row follows those that are read now
    targets = _targets_of(it)
    wanted = LogFilter(request.GET, it.targets.all())
    stored = StoredLog.of(it)
    newest = stored.newest() or LogLine(pk=0)
    numbers = [line.number for line in stored.errors(ERRORS_COUNTED)]
    at = min(_number(request, "at"), newest.number)
    if not at and not wanted.chosen and _ended_badly(it) and numbers and numbers[0] <= newest.number - LOG_ROWS:
        at = numbers[0]
    found = Found(_around(stored, newest, at), 0) if at else _found(it, wanted, newest.pk + 1)
    log = _log(it, found.lines, targets, at=at, wanted=wanted)
    head = _head(request.user, it, targets)
    given = _poll_pass(request, pk, wanted.chosen).new()
    return render(
        request,
        "deployer/deployment.html",
        {
            **head,
            **log,
            "phases": {key: state for key, state in log["states"].items() if key in _PHASES},
            "at": at,
            **(_window(it, found.lines, newest) if at else _earlier(it, found)),
            "last_number": newest.number,
            "follows": it.is_active,
            "parts": _parts(it, targets),
            "poll": _poll_address(pk, newest.pk, head["seen"], given, wanted.chosen, _signs(targets)),
            **_whole(it, targets, wanted.chosen),
            "wanted": wanted,
            "errors": len(numbers),
            "error_numbers": numbers,
            "errors_counted": ERRORS_COUNTED,
        },
    )


def _ended_badly(it: Deployment) -> bool:
    return not it.is_active and it.status != Deployment.Status.SUCCESS


def _runs_on(it: Any, targets: Iterable[int | None]) -> list[StepRun]:
    """The runs of steps on these servers and on the platform; ``it`` is a deployment as `shown`."""
    if not it.ran_steps:
        return []
    return list(it.step_runs.filter(Q(target__in=[pk for pk in targets if pk]) | Q(target=None)))


def _window(it: Deployment, lines: list[Any], newest: Any) -> dict[str, Any]:
    """What stands before and behind lines from the middle of a log."""
    later = lines[-1].number < newest.number
    return {**_earlier(it, Found(lines, lines[0].pk)), "later": later, "last_id": lines[-1].pk}


def _earlier(it: Deployment, found: Found) -> dict[str, int]:
    """How many lines of the log are before what was found, if any is left to be read, and before which id those are."""
    lines = found.lines
    if not found.before:
        earlier = 0
    elif lines and lines[0].pk == found.before:
        earlier = lines[0].number - 1
    else:
        before = StoredLog.of(it).before(found.before, 1)
        earlier = before[0].number if before else 0
    return {"earlier": earlier, "before": found.before}


def _poll_pass(request: HttpRequest, pk: int, chosen: Mapping[str, str]) -> Pass:
    return Pass(request, "log", pk, urlencode(chosen))


def _poll_address(pk: int, after: int, seen: str, given: str, chosen: Mapping[str, str], signs: str) -> str:
    """Where the next poll asks: for rows after an id, for the head if it is not as ``seen``, and for the servers that
    are not as their ``signs`` say.
    """
    query = {"after": after, "seen": seen, "pass": given, **chosen, "servers": signs}
    return f"{reverse('deployment_poll', args=[pk])}?{urlencode(query)}"


@require_safe
def deployment_poll(request: Request, pk: int) -> HttpResponse:
    """The news since the last answer: log rows after an id, and the head and the servers that have changed.

    Without news the answer is empty (204): the page asks again as before. With a good pass the user is not looked up
    until the head has changed, nor is the filter that it was made for. State and rows are of one moment (see `News`): a
    deployment that had ended by then has no row that is missed. The head is read after that; where it is newer, it
    comes once more.
    """
    chosen = {name: request.GET[name] for name in LogFilter.base_fields if request.GET.get(name)}
    given = request.GET.get("pass", "")
    is_known = _poll_pass(request, pk, chosen).is_good(given)
    if not is_known:
        if not request.user.is_authenticated:
            return HttpResponseClientRefresh()
        find(request.user, Deployment.objects.only("pk"), pk=pk)
        chosen = LogFilter(request.GET, Target.objects.filter(deployment=pk)).chosen
        given = _poll_pass(request, pk, chosen).new()
    after = _number(request, "after")
    news = News.of(pk, after, folded=True)
    if news is None:
        raise Http404
    changed = news.seen != request.GET.get("seen")
    if is_known and news.is_active and not news.rows and not changed:
        return HttpResponse(status=204, headers={"Cache-Control": "no-store"})
    if news.rows and not news.folds:
        return HttpResponseClientRefresh()  # the page slept so long that its log was packed meanwhile
    rows = _wanted(news.rows, pk, chosen)
    folds = dict(zip(news.rows, news.folds, strict=True)) if len(rows) < len(news.rows) else {}
    context = {
        "rows": rows,
        "tree": tree_of(rows, [folds[row] for row in rows] if folds else news.folds),
        "more": news.is_full,
        "follows": news.follows,
    }
    before = request.GET.get("seen", "")
    signs = request.GET.get("servers", "") if before else ""
    if changed:
        if not request.user.is_authenticated:
            return HttpResponseClientRefresh()  # the pass was still good, the session is not
        moment = int(time.monotonic() / CHANGE_HOLDS)
        # Who may decide about one that waits, is another question than where they may do what.
        viewer = Viewer.of(request.user, itself=news.status in Deployment.IN_LINE)
        asked = pk, viewer, before, signs, tuple(chosen.items())
        context["change"], signs = _drawn_change(*asked, get_language(), news.seen, moment)
    context["poll"] = _poll_address(pk, news.last_id, news.seen, given, chosen, signs)
    return render(request, "deployer/_poll.html", context)


@drawn_once
def _drawn_change(
    pk: int,
    viewer: Viewer,
    before: str,
    signs: str,
    chosen: tuple[tuple[str, str], ...],
    _language: str,
    _now: str,
    _moment: int,
) -> tuple[str, str]:
    """The head and the servers that are not as somebody saw them ``before``, and the signs of how they are.

    When a server moves, hundreds of people ask for that within a second.
    """
    it = shown(viewer.user, pk)
    targets = _targets_of(it)
    news_of = _changed(targets, signs)
    wanted = LogFilter(QueryDict(urlencode(chosen)), it.targets.all())
    whole = _whole(it, targets, dict(chosen), news_of)
    context = _head(viewer.user, it, targets) | {
        "news_of": news_of,
        **whole,
        "states": _states(it, targets, targets if news_of is None else news_of),
        "wanted": wanted,
    }
    # What was read just now may be newer than the news: it comes once more then.
    return render_to_string("deployer/_poll_change.html", context), _signs(targets)


def _states(it: Deployment, targets: list[Target], changed: Iterable[Target]) -> dict[str, State]:
    """How the folds have gone of which that may have changed: of these servers, of phases and steps on the platform."""
    moved = {target.pk: target for target in changed}
    runs = _runs_on(it, moved)
    keys = _PHASES.union({f"s{run.pk}" for run in runs}, *map(keys_of, moved.values()))
    return {key: state for key, state in states_of(it, targets, runs).items() if key in keys}


def _wanted(rows: list[LogRow], pk: int, chosen: Mapping[str, str]) -> list[LogRow]:
    """The new rows that match the filter."""
    if not chosen or not rows:
        return rows
    new = LogLine.objects.filter(deployment=pk, id__range=(rows[0].pk, rows[-1].pk))
    ids = set(new.filter(Wanted.of(chosen).condition).values_list("pk", flat=True))
    return [row for row in rows if row.pk in ids]


@fragment
def deployment_server(request: Request, pk: int) -> HttpResponse:
    """What the line of the server ``of`` leaves out: the proof, the error, the evidence."""
    it = shown(request.user, pk)
    target = get_object_or_404(it.targets, pk=_number(request, "of"))
    _whole(it, [target], {})
    editable = may(request.user, Action.EDIT, it.project)
    operable = may(request.user, Action.OPERATE, it)
    context = {"target": target, "deployment": it, "key": str(target.pk), "editable": editable, "operable": operable}
    return render(request, "deployer/_target_whole.html", context)


@fragment
def deployment_earlier(request: Request, pk: int) -> HttpResponse:
    """The log rows before an id."""
    it = shown(request.user, pk)
    wanted = LogFilter(request.GET, it.targets.all())
    found = _found(it, wanted, _number(request, "before"))
    log = _log(it, found.lines, _targets_of(it), wanted=wanted)
    context = {"deployment": it, **log, "wanted": wanted, **_earlier(it, found)}
    return render(request, "deployer/_earlier_answer.html", context)


@fragment
def deployment_later(request: Request, pk: int) -> HttpResponse:
    """The log rows after an id."""
    it = shown(request.user, pk)
    lines = StoredLog.of(it).after(_number(request, "after"), LOG_ROWS + 1)
    more, lines = len(lines) > LOG_ROWS, lines[:LOG_ROWS]
    context = {
        "deployment": it,
        **_log(it, lines, _targets_of(it)),
        "later": more,
        "last_id": lines[-1].pk if lines else 0,
    }
    return render(request, "deployer/_later_answer.html", context)


@fragment
def deployment_around(request: Request, pk: int) -> HttpResponse:
    """The log around the line of a number, to be shown in place of what is there."""
    it = shown(request.user, pk)
    stored = StoredLog.of(it)
    newest = stored.newest()
    if newest is None:
        return HttpResponse()
    at = max(1, min(_number(request, "at"), newest.number))
    lines = _around(stored, newest, at)
    context = {"deployment": it, "at": at, **_log(it, lines, _targets_of(it), at=at), **_window(it, lines, newest)}
    context["wanted"] = LogFilter(QueryDict(), it.targets.all())
    return render(request, "deployer/_log_around.html", context)


@fragment
def deployment_find(request: Request, pk: int) -> JsonResponse:
    """The numbers of the last lines in which a text is, and whether there are more; of those that are wanted."""
    it = shown(request.user, pk)
    wanted = LogFilter(request.GET, it.targets.all())
    if "text" not in wanted.chosen:
        return JsonResponse({"lines": [], "more": False})
    found = _found(it, wanted, BigIntegerField.MAX_BIGINT)
    return JsonResponse({"lines": [line.number for line in found.lines], "more": bool(found.before)})


@require_safe
@members_only
def deployment_error(request: Request, pk: int) -> HttpResponse:
    """The first error after an id, and after the last one the first one again: the page with the log around it."""
    it = shown(request.user, pk)
    line = StoredLog.of(it).error_after(_number(request, "after"))
    if line is None:
        messages.info(request, _("There is no error in this log."))
        return redirect(it)
    return redirect(f"{it.get_absolute_url()}?at={line.number}#L{line.number}")


@require_safe
@members_only
def deployment_moment(request: Request, pk: int) -> HttpResponse:
    """The page with the log around its first line since a moment, ``at``: milliseconds since 1970, in base 36."""
    it = shown(request.user, pk)
    try:
        moment = datetime.fromtimestamp(base36_to_int(request.GET.get("at", "")) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return redirect(it)
    line = StoredLog.of(it).since(moment)
    return redirect(f"{it.get_absolute_url()}?at={line.number}#L{line.number}" if line else it)


@require_safe
@members_only
def deployment_log(request: Request, pk: int) -> HttpResponseBase:
    """The whole log as a text file, sent while it is read."""
    it = shown(request.user, pk)
    answer = download(text_of(it), f"{slugify(it.project.name) or 'deployment'}-{it.pk}.log")
    if answer is None:
        messages.warning(request, _("Other logs are being downloaded at this moment: try again in a minute."))
        return redirect(it)
    record(actor(), Act.DOWNLOADED, it, note=gettext_noop("log"))
    return answer
