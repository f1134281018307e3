"""The logs of an application, followed live on a server."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import HttpResponseClientRefresh

from deployer.following.asked import NotFollowedError, begin, news, servers_of
from deployer.log.reading import LogRow
from deployer.models import FollowedLine, LogFollow
from people.access import Request, find, members_only
from people.roles import Action
from projects.models import Project


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else 0


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def project_logs(request: Request, pk: int) -> HttpResponse:
    """Choose a server and a log; sent, it is followed, by the login of whoever follows it already if somebody does."""
    project = find(request.user, Project.objects, Action.OPERATE, pk=pk)
    servers, logs = servers_of(project), project.logs
    chosen = _number(request.POST.get("server", "") or request.GET.get("server", ""))
    if request.method == "POST":
        server = next((it for it in servers if it.pk == chosen), None)
        number = _number(request.POST.get("log", ""))
        if server is None or not 0 < number <= len(logs):
            messages.warning(request, _("Choose a server and a log."))
        else:
            kind, name = logs[number - 1]
            try:
                return redirect("log_follow", pk, begin(project, server, kind, name, request.user).pk)
            except NotFollowedError as refusal:
                messages.warning(request, str(refusal))
    context = {"project": project, "servers": servers, "logs": _told(logs), "chosen": chosen}
    return render(request, "deployer/logs/choose.html", context)


def _told(logs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What each log is called: a file by its path, another one by its service."""
    return [(_kind_in_words(kind), name) for kind, name in logs]


def _kind_in_words(kind: str) -> str:
    """Empty for a file."""
    return "" if kind == "file" else str(dict(Project.ServiceKind.choices).get(kind, kind))


def _shown(request: Request, pk: int, follow: int) -> LogFollow:
    find(request.user, Project.objects, Action.OPERATE, pk=pk)
    return find(request.user, LogFollow.objects.select_related("project", "server"), project=pk, pk=follow)


@require_safe
@members_only
def log_follow(request: Request, pk: int, follow: int) -> HttpResponse:
    """The log as it comes."""
    return render(request, "deployer/logs/follow.html", _context(_shown(request, pk, follow), 0))


@require_safe
def log_poll(request: Request, pk: int, follow: int) -> HttpResponse:
    """What came since; whoever asks is looking."""
    if not request.user.is_authenticated:
        return HttpResponseClientRefresh()
    after = _number(request.GET.get("after", ""))
    context = _context(_shown(request, pk, follow), after)
    if not context["rows"] and not context["has_ended"] and request.GET.get("begun") == context["begun"]:
        return HttpResponse(status=204, headers={"Cache-Control": "no-store"})
    return render(request, "deployer/logs/_poll.html", context)


def _context(follow: LogFollow, after: int) -> dict[str, Any]:
    found = news(follow, after)
    return {
        "follow": follow,
        "project": follow.project,
        "kind": _kind_in_words(follow.kind),
        "rows": [_row(line, follow.server.name) for line in found.lines],
        "last_id": found.last_id,
        "has_ended": found.has_ended,
        "begun": _state(follow),
        "number": next(
            (at for at, log in enumerate(follow.project.logs, start=1) if log == (follow.kind, follow.name)), 0
        ),
    }


def _state(follow: LogFollow) -> str:
    """Whether it waits for a worker, the worker for the server, or it is followed."""
    if not follow.claim:
        return "waits"
    return "live" if follow.begun_at else "connects"


def _row(line: FollowedLine, server: str) -> LogRow:
    return LogRow(line.pk, line.pk, line.stream, "info", line.content, line.timestamp, server)
