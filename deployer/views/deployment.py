"""One deployment as it goes: its head, its servers, its log."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from deployer import terminal
from deployer.forms import LogFilter
from deployer.models import Deployment, LogLine, Target
from deployer.views.request import Request, fragment

#: Log rows that one answer holds at most, and those before a line that is asked for by its number.
LOG_ROWS, LOG_ROWS_BEFORE = 500, 50


def shown(pk: int) -> Deployment:
    """The deployment of a page, or 404."""
    return get_object_or_404(
        Deployment.objects.select_related("project", "created_by", "retry_of", "rollback_from", "release").defer(
            "plan", "retry_of__plan", "rollback_from__plan"
        ),
        pk=pk,
    )


@dataclass(frozen=True)
class Row:
    """A log line with its number in the log and the server it is from."""

    number: int
    line: LogLine
    server: str


def _rows(lines: Sequence[LogLine], targets: list[Target], first_number: int) -> list[Row]:
    """Lines that follow each other in the log."""
    return _numbered(zip(range(first_number, first_number + len(lines)), lines, strict=True), targets)


def _numbered(lines: Iterable[tuple[int, LogLine]], targets: list[Target]) -> list[Row]:
    names = {target.pk: target.server_name for target in targets}
    return [Row(number, line, names.get(line.target_id or 0, "")) for number, line in lines]


def _matching(it: Deployment, targets: list[Target], condition: Q, before: int = 0) -> list[Row]:
    """The last rows that are as wanted, of those before an id if one is given, with their numbers in the whole log."""
    lines = it.log_lines.filter(condition)
    found = list((lines.filter(id__lt=before) if before else lines).order_by("-id")[:LOG_ROWS])[::-1]
    if not found:
        return []
    first = it.log_lines.filter(id__lt=found[0].pk).count() + 1
    between = it.log_lines.filter(id__range=(found[0].pk, found[-1].pk)).order_by("id").values_list("pk", flat=True)
    numbers = {pk: number for number, pk in enumerate(between.iterator(), first)}
    return _numbered(((numbers[line.pk], line) for line in found), targets)


def _window(it: Deployment, targets: list[Target], number: int) -> list[Row]:
    """The rows around the line of that number."""
    first = max(number - LOG_ROWS_BEFORE, 1)
    lines = it.log_lines.order_by("id")[first - 1 : first - 1 + LOG_ROWS]
    return _rows(list(lines), targets, first)


def _state(deployment: Deployment, targets: list[Target]) -> str:
    """A short text that changes whenever the head of the page or its table of servers would."""
    seen = [
        (deployment.status, deployment.commit_hash, deployment.error_message),
        (deployment.cancel_requested_at, deployment.force_requested_at, deployment.finished_at, deployment.paused_at),
        *((t.status, t.exit_code, t.error, t.release_before, t.release_after, t.proof, t.started_at) for t in targets),
        *((t.evidence, t.progress) for t in targets),
    ]
    return hashlib.blake2s(repr(seen).encode(), digest_size=8).hexdigest()


def _head(deployment: Deployment, targets: list[Target]) -> dict[str, Any]:
    """What the head of the page and its table of servers show, and what they offer to do."""
    ended = not deployment.is_active
    return {
        "deployment": deployment,
        "targets": targets,
        "groups": deployment.server_groups.all(),
        "seen": _state(deployment, targets),
        "paused": Pause.of(deployment, targets),
        "can_retry": ended and any(target.status != Target.Status.SUCCESS and target.server_id for target in targets),
        "can_roll_back": ended
        and not deployment.is_restart_only
        and any(target.release_before and target.server_id for target in targets),
    }


@dataclass(frozen=True)
class Pause:
    """Where a rollout waits: the last batch that was begun, and the servers of the batches after it."""

    after: int
    batches: list[tuple[int, list[Target]]]

    @classmethod
    def of(cls, deployment: Deployment, targets: list[Target]) -> "Pause | None":
        """The pause of a deployment; nothing if it does not wait."""
        if deployment.paused_at is None:
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
@login_required
def deployment(request: Request, pk: int) -> HttpResponse:
    """One deployment: what it is, how each server fares, and the end of its log, or of what is wanted of it.

    ``at`` is the number of a line: then the log is shown around it, and does not follow.
    """
    it = shown(pk)  # before the rows: once it has ended, no row follows those that are read now
    targets = list(it.targets.all())
    wanted = LogFilter(request.GET, it.targets.all())
    newest = list(it.log_lines.order_by("-id")[:LOG_ROWS])[::-1]
    last = it.log_lines.filter(id__lte=newest[-1].pk).count() if newest else 0
    at = min(_number(request, "at"), last)
    if at:
        rows = _window(it, targets, at)
        earlier = rows[0].number - 1
    elif wanted.condition:
        rows = _matching(it, targets, wanted.condition)
        earlier = rows[0].number - 1 if len(rows) == LOG_ROWS else 0
    else:
        rows, earlier = _rows(newest, targets, last - len(newest) + 1), last - len(newest)
    return render(
        request,
        "deployer/deployment.html",
        {
            **_head(it, targets),
            "rows": rows,
            "at": at,
            "earlier": earlier,
            "later": bool(at) and rows[-1].number < last,
            "last_id": rows[-1].line.pk if rows else 0,
            "last_number": rows[-1].number if rows else 0,
            "after": newest[-1].pk if newest else 0,
            "next_number": last + 1,
            "follows": it.is_active,
            "wanted": wanted,
            "errors": it.log_lines.filter(level=LogLine.Level.ERROR).count(),
        },
    )


@fragment
def deployment_poll(request: Request, pk: int) -> HttpResponse:
    """What is new since the last answer: log rows after an id, and the head and table if they have changed.

    The status is read before the rows: a deployment that had ended by then has no row that is missed.
    """
    it = shown(pk)
    targets = list(it.targets.all())
    after, number = _number(request, "after"), _number(request, "line") or 1
    wanted = LogFilter(request.GET, it.targets.all())
    condition = wanted.condition or Q(pk__isnull=False)
    found = it.log_lines.filter(id__gt=after).annotate(wanted=ExpressionWrapper(condition, BooleanField()))
    lines = list(found.order_by("id")[:LOG_ROWS])
    head = _head(it, targets)
    more = len(lines) == LOG_ROWS
    return render(
        request,
        "deployer/_poll.html",
        {
            **head,
            "rows": [row for row in _rows(lines, targets, number) if row.line.wanted],  # type: ignore[attr-defined]
            "wanted": wanted,
            "after": lines[-1].pk if lines else after,
            "next_number": number + len(lines),
            "changed": head["seen"] != request.GET.get("seen"),
            "more": more,
            "follows": it.is_active or more,
        },
    )


@fragment
def deployment_earlier(request: Request, pk: int) -> HttpResponse:
    """The log rows before an id; ``line`` is the number of the row with that id."""
    it = shown(pk)
    targets = list(it.targets.all())
    wanted = LogFilter(request.GET, it.targets.all())
    before, number = _number(request, "before"), max(_number(request, "line"), 1)
    if wanted.condition:
        rows = _matching(it, targets, wanted.condition, before)
    else:
        lines = list(it.log_lines.filter(id__lt=before).order_by("-id")[:LOG_ROWS])[::-1]
        rows = _rows(lines, targets, max(number - len(lines), 1))
    earlier = rows[0].number - 1 if len(rows) == LOG_ROWS else 0
    context = {"deployment": it, "rows": rows, "earlier": earlier, "wanted": wanted}
    return render(request, "deployer/_earlier_answer.html", context)


@fragment
def deployment_later(request: Request, pk: int) -> HttpResponse:
    """The log rows after an id; ``line`` is the number of the row with that id."""
    it = shown(pk)
    number = _number(request, "line")
    lines = list(it.log_lines.filter(id__gt=_number(request, "after")).order_by("id")[: LOG_ROWS + 1])
    more, lines = len(lines) > LOG_ROWS, lines[:LOG_ROWS]
    context = {
        "deployment": it,
        "rows": _rows(lines, list(it.targets.all()), number + 1),
        "later": more,
        "last_id": lines[-1].pk if lines else 0,
        "last_number": number + len(lines),
    }
    return render(request, "deployer/_later_answer.html", context)


@require_safe
@login_required
def deployment_error(request: Request, pk: int) -> HttpResponse:
    """The first error after an id, and after the last one the first one again: the page with the log around it."""
    it = shown(pk)
    errors = it.log_lines.filter(level=LogLine.Level.ERROR).order_by("id")
    line = errors.filter(id__gt=_number(request, "after")).first() or errors.first()
    if line is None:
        messages.info(request, _("There is no error in this log."))
        return redirect(it)
    number = it.log_lines.filter(id__lte=line.pk).count()
    return redirect(f"{it.get_absolute_url()}?at={number}#L{number}")


@require_safe
@login_required
def deployment_log(request: Request, pk: int) -> HttpResponseBase:
    """The whole log as a text file, sent while it is read."""
    it = shown(pk)
    name = f"{slugify(it.project.name) or 'deployment'}-{it.pk}.log"
    return StreamingHttpResponse(
        _log_text(it),
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _log_text(it: Deployment) -> Iterator[str]:
    names = dict(it.targets.values_list("pk", "server_name"))
    rows = it.log_lines.order_by("id").values_list("timestamp", "target_id", "stream", "level", "content")
    for timestamp, target, stream, level, content in rows.iterator(chunk_size=2000):
        head = [timestamp.isoformat(timespec="milliseconds"), names.get(target, "-"), f"{stream}/{level}"]
        yield f"{' '.join(head)} {terminal.plain(content)}\n"
