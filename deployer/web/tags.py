"""How templates speak of deployments: durations, icons, log text. Of the database they only ask for lost workers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from django import template
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import int_to_base36
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from deployer import __version__
from deployer.board.folds import State
from deployer.board.timings import Segment, Stop, phases_of, picture_of, stops_of, with_steps
from deployer.gates import deciding
from deployer.log import terminal
from deployer.log.folds import Node
from deployer.log.reading import LogRow, lane_of
from deployer.models import Deployment, StepRun, Target
from deployer.queue import sending
from deployer.trains import approving
from deployer.web.waiting import ahead_sentence, worker_sentence
from pages.times import clock
from people.models import User
from projects.commands.proof import Identity, Proof, proof_in_words

register = template.Library()

_ICONS = {
    "success": "ok",
    "done": "ok",
    "failed": "failed",
    "interrupted": "warning",
    "unknown": "unknown",
    "unchanged": "unchanged",
    "cancelled": "cancelled",
    "rolled_back": "undone",
    "skipped": "skipped",
    "pending": "waiting",
    "staged": "waiting",
    "paused": "paused",
    "queued": "waiting",
    "waiting": "lock",
    "expired": "skipped",
    "halted": "paused",
}
_COLOURS = {
    "success": "success",
    "failed": "failed",
    "interrupted": "failed",
    "cancelled": "cancelled",
    "paused": "paused",
    "waiting": "paused",
    "queued": "idle",
    "expired": "idle",
}

#: Batches whose servers are shown apart.
BATCHES = 12
_STOP_ICONS = {"done": "ok", "waited": "waiting", "coming": "waiting"}

#: The order in which counts of servers are read.
_WORST_FIRST = sorted(Target.Status, key=lambda status: (status not in Target.FAILURES, status in Target.ENDED))

register.filter("terminal", terminal.as_html)
register.filter("ahead", ahead_sentence)
register.filter("in_words", proof_in_words)


@register.filter
def better_name(proof: Mapping[str, Any]) -> str:
    """The words by which the process of a stored proof would have been found; empty where it was found."""
    return Proof.from_json(proof).better_name if proof.get("near") else ""


@register.simple_tag
def product_version() -> str:
    """The version of deployer."""
    return __version__


@register.filter
def state(it: Any) -> str:
    """The status of a deployment, a run of a command, or a server of one; or that it is paused."""
    return "paused" if isinstance(it, Deployment) and it.is_paused else str(it.status)


@register.filter
def state_label(it: Any) -> str:
    """The name of its state."""
    return _("Paused") if state(it) == "paused" else str(it.get_status_display())


@register.filter
def origin(it: Deployment) -> str:
    """What a deployment was in a few words, where it was more than a launch by hand; else empty."""
    told = {"number": it.rollback_from_id or it.retry_of_id, "name": it.launched_for}
    if it.rollback_from_id:
        return _("Rollback of #%(number)s") % told
    if it.retry_of_id:
        return _("Retry of #%(number)s") % told
    if it.trigger in {*Deployment.AUTOMATIC, Deployment.Trigger.TRAIN}:
        return f"{it.get_trigger_display()} {it.launched_for}".strip()
    return ""


@register.filter
def status_icon(state: str) -> str:
    """The name of the icon of a deployment's or a server's state."""
    return _ICONS.get(state, "running")


@register.filter
def favicon(state: str) -> str:
    """The icon of the browser tab for a deployment's state."""
    return f"favicon/{_COLOURS.get(state, 'running')}.svg"


@register.simple_tag
def queue_is_lost() -> bool:
    """Whether the queue did not answer lately."""
    return sending.queue_is_lost()


@register.simple_tag
def waits_for_worker(deployment: Deployment) -> str:
    """Why no worker has taken a deployment that may begin."""
    return worker_sentence(deployment.pk)


@register.simple_tag
def number_that_waits_for(user: User) -> int:
    """How many deployments and trains wait for somebody's approval."""
    return deciding.waiting_for(user).count() + len(approving.waiting_for(user))


@register.simple_tag
def duration(work: Any) -> str:
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


class Timings(NamedTuple):
    """The way of a deployment: as a picture, and as stops, each with the name of its icon and what that means."""

    segments: list[Segment]
    stops: list[tuple[Stop, str, str]]


@register.simple_tag
def timings(deployment: Deployment, targets: Sequence[Target], runs: Iterable[StepRun] = ()) -> Timings:
    """The phases of a deployment, with those of its steps that are run once for all of its servers."""
    phases = with_steps(phases_of(deployment, targets), runs)
    words = {
        "done": _("done"),
        "running": _("running"),
        "failed": _("failed"),
        "paused": "",
        "waited": "",
        "cancelled": _("cancelled"),
        "coming": _("not begun"),
    }
    stops = stops_of(deployment, targets, phases)
    return Timings(
        picture_of(phases), [(stop, _STOP_ICONS.get(stop.state, stop.state), words[stop.state]) for stop in stops]
    )


@register.filter
def by_batch(targets: Sequence[Target]) -> list[tuple[int | None, list[Target], int]]:
    """Each batch with its servers and how many of them have ended; those that were left out are in a batch 0.

    What has failed comes first: the batches that have it, and in each of them those servers. Very many batches are
    one, without a number.
    """
    is_one = len({target.batch for target in targets}) > BATCHES

    def number(target: Target) -> int:
        return 0 if target.was_left_out else 1 if is_one else target.batch

    ordered = sorted(targets, key=lambda target: (number(target), not target.has_failed, target.batch, target.pk))
    found = [(batch, list(members)) for batch, members in groupby(ordered, key=number)]
    rows = [
        (None if is_one and batch else batch, members, sum(it.status in Target.ENDED for it in members))
        for batch, members in found
    ]
    return sorted(rows, key=lambda row: (not row[1][0].has_failed, row[0] == 0, row[0] or 1))


@register.filter
def tally(targets: Sequence[Target]) -> list[tuple[str, str, int, int]]:
    """The number of servers in each status, the worst first: the status, its name, the number, the id of the first."""
    counts = Counter(Target.Status(target.status) for target in targets)
    first = {Target.Status(target.status): target.pk for target in reversed(targets)}
    order = [status for status in _WORST_FIRST if counts[status]]
    return [(status.value, str(status.label), counts[status], first[status]) for status in order]


@register.simple_tag
def square(target: Target, more_at: str, log_at: str, is_news: object) -> SafeString:
    """A server among many: a square that says its name, its status and the line that its script has not ended yet.

    The rest is read from ``more_at`` once somebody comes to it by the keyboard.

    Written out: a template takes ten times as long, and there are hundreds of them.
    """
    return format_html(
        '<li id="target-{pk}" class="target square target-{status}" hx-get="{more_at}?of={pk}"'
        ' hx-trigger="focusin once"{oob}><a class="square-link" id="server-{pk}"'
        ' href="{log_at}{sign}server={pk}#log-title">{icon}<span class="visually-hidden">{name}: {label}</span></a>'
        '<div class="square-card"><div class="target-head"><strong>{name}</strong>'
        '<span class="status status-{status}">{icon} {label}</span><span class="target-took">{took}</span></div>'
        '<div class="target-more">{unfinished}</div></div></li>',
        pk=target.pk,
        status=target.status,
        more_at=more_at,
        oob=SafeString(' hx-swap-oob="true"' if is_news else ""),
        log_at=log_at,
        sign="&" if len(log_at) > 1 else "" if log_at else "?",
        name=target.server_name,
        icon=icon(status_icon(target.status)),
        label=Target.Status(target.status).label,
        took=duration(target) if target.started_at else "",
        unfinished=_unfinished(target),
    )


def _unfinished(target: Target) -> str:
    if target.status not in Target.AT_ITS_SCRIPT or not target.progress:
        return ""
    return format_html('<p class="quiet mono unfinished">{}</p>', target.progress)


@register.filter
@cache
def icon(name: str) -> SafeString:
    """An icon, where a page has hundreds: it is drawn once, and not each time as by ``_icon.html``."""
    return mark_safe(render_to_string("_icon.html", {"name": name}).strip())  # noqa: S308 (of a template)


@register.filter
def uptime(process: Identity) -> str:
    """How long a process has been running, by its server's clock; empty where that is not known."""
    since = process.started_at
    if since is None:
        return ""
    up = timezone.now() - since
    return clock(up) if up < timedelta(minutes=1) else timesince(since, depth=1)


@register.filter
def in_base36(moment: datetime) -> str:
    """The milliseconds since 1970, as short as a script can read them."""
    return int_to_base36(int(moment.timestamp() * 1000))


@register.simple_tag
def log_rows(rows: Iterable[LogRow]) -> SafeString:
    """Rows of a log. However many watch it, each row is made into HTML once in a process, for each language."""
    language = get_language()
    return format_html_join("", "{}", ((_log_row(row, language),) for row in rows))


@register.simple_tag
def log_folds(tree: Node[LogRow], states: Mapping[str, State] | None = None, opened: Iterable[str] | None = ()) -> str:
    """Rows of a log in their folds: the ``opened`` ones open, all where that is None.

    Without ``states``, as a poll brings them, how they have gone is told beside them.
    """
    return _in_folds(tree, states, None if opened is None else frozenset(opened), get_language())


def _in_folds(
    node: Node[LogRow], states: Mapping[str, State] | None, opened: frozenset[str] | None, language: str | None
) -> SafeString:
    parts = []
    for item in node.items:
        if isinstance(item, LogRow):
            parts.append(_log_row(item, language))
        elif fold := item.fold:
            state = (states or {}).get(fold.key)
            is_open = states is not None and (opened is None or fold.key in opened)
            parts.append(
                format_html(
                    '<details class="fold fold-{kind}{lane}" data-fold="{key}"{anchor}{opens}>'
                    '<summary><span class="fold-name">{name}</span> {state}</summary>'
                    '<div class="fold-rows">{rows}</div></details>',
                    kind=fold.kind,
                    lane=f" lane-{lane_of(fold.target)}" if fold.target else "",
                    key=fold.key,
                    anchor=format_html(' id="fold-{}"', fold.key) if states is not None else "",
                    opens=SafeString(" open" if is_open else ""),
                    name=fold.name,
                    state=_fold_state(state),
                    rows=_in_folds(item, states, opened, language),
                )
            )
    return SafeString("".join(parts))


def _fold_state(state: State | None) -> SafeString:
    """How a fold has gone: in a word, and how long it took or takes."""
    status = state.status if state else ""
    took: str = ""
    if state and state.began:
        since = format_html(
            '<span data-since="{}">{}</span>', state.began.isoformat(), clock(timezone.now() - state.began)
        )
        took = clock(state.ended - state.began) if state.ended else since
    return format_html(
        '<span class="fold-state" data-state="{status}">{icon} <span class="fold-word">{word}</span> '
        '<span class="fold-took">{took}</span></span>',
        status=status or "running",
        icon=icon(status_icon(status)),
        word=Target.Status(status).label if status else _("Running"),
        took=took,
    )


@register.simple_tag
def fold_states(states: Mapping[str, State]) -> SafeString:
    """How folds have gone, each by its key, for a script that puts it where the fold is."""
    return format_html_join("", '<span data-of="{}">{}</span>', ((key, _fold_state(it)) for key, it in states.items()))


@lru_cache(maxsize=2000)
def _log_row(row: LogRow, _language: str) -> SafeString:
    level = f" {row.level}" if row.level != "info" else ""
    kind = f"{row.stream}{level} lane-{row.lane}" if row.lane else f"{row.stream}{level}"
    return render_to_string("deployer/_line.html", {"row": row, "kind": kind})
