"""How templates speak of deployments: durations, icons, log text. Of the database they only ask for lost workers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, lru_cache
from itertools import groupby
from typing import Any

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
from deployer.board.timings import Segment, phases_of, picture_of
from deployer.gates import deciding
from deployer.log import terminal
from deployer.log.folds import Node
from deployer.log.reading import LogRow, lane_of
from deployer.models import Deployment, Target
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

#: Servers that a strip of them still shows one by one.
CELLS = 60
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
    """The number of servers in each status, the worst first: the status, its name, the number, the id of the first."""
    counts = Counter(Target.Status(target.status) for target in targets)
    first = {Target.Status(target.status): target.pk for target in reversed(targets)}
    order = [status for status in _WORST_FIRST if counts[status]]
    return [(status.value, str(status.label), counts[status], first[status]) for status in order]


@register.simple_tag
def one_line(target: Target, more_at: str, log_at: str, is_news: object) -> SafeString:
    """A server among many: its name, its status and the line that its script has not ended yet.

    The rest is read from ``more_at`` once this is opened.

    Written out: a template takes ten times as long, and there are hundreds of them.
    """
    return format_html(
        '<li id="target-{pk}" class="target target-{status}" hx-get="{more_at}?of={pk}" hx-trigger="focusin once"{oob}>'
        '<div class="target-head"><a class="target-name" id="server-{pk}" href="{log_at}{sign}server={pk}#log-title">'
        '{name}</a><span class="status status-{status}">{icon} {label}</span><span class="target-took">{took}</span>'
        '</div><div class="target-more">{unfinished}</div></li>',
        pk=target.pk,
        status=target.status,
        more_at=more_at,
        oob=SafeString(' hx-swap-oob="true"' if is_news else ""),
        log_at=log_at,
        sign="&" if len(log_at) > 1 else "" if log_at else "?",
        name=target.server_name,
        icon=_icon(status_icon(target.status)),
        label=Target.Status(target.status).label,
        took=duration(target) if target.started_at else "",
        unfinished=_unfinished(target),
    )


def _unfinished(target: Target) -> str:
    if target.status not in Target.AT_ITS_SCRIPT or not target.progress:
        return ""
    return format_html('<p class="quiet mono unfinished">{}</p>', target.progress)


@cache
def _icon(name: str) -> SafeString:
    return mark_safe(render_to_string("_icon.html", {"name": name}).strip())  # noqa: S308 (of a template)


@register.filter
def cells(targets: Sequence[Target]) -> list[tuple[str, int, int, str]]:
    """Servers side by side, neighbours in one status as one: the status, where they begin, how many, and their names.

    Where they are few, each is one by itself.
    """
    together = len(targets) > CELLS
    found = []
    for _key, members in groupby(enumerate(targets), key=lambda it: it[1].status if together else it[0]):
        (first, target), *more = members
        words = f"{target.server_name}{' …' if more else ''}: {Target.Status(target.status).label}"
        found.append((target.status, first, 1 + len(more), words))
    return found


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
        icon=_icon(status_icon(status)),
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
