"""Pages to launch a deployment, watch it, stop it, and see what ran before."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.paginator import Paginator
from django.db.models import Count, Max, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh
from django_htmx.middleware import HtmxDetails

from deployer import terminal
from deployer.forms import HistoryFilter, LaunchForm
from deployer.launch import (
    Launch,
    LaunchRefusedError,
    check_launch,
    launch,
    numbered,
    refusal_while_active,
    wish_to_retry,
    wish_to_roll_back,
)
from deployer.models import Deployment, DeploymentQuerySet, LogLine, Target
from deployer.preflight import Finding, preflight_of
from deployer.shape import cancel_sentence, continue_sentence
from projects.models import Project
from servers.models import Credential, Server, ServerGroup

#: Log rows that one answer holds at most.
LOG_ROWS = 500
HISTORY_PAGE = 50


class Request(HttpRequest):
    """A request of somebody who is logged in."""

    user: User
    htmx: HtmxDetails


def fragment(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A view whose answer is put into a page: a visitor whose session has ended gets the page anew, so the login."""

    @wraps(view)
    def checked(request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return HttpResponseClientRefresh()
        return view(request, *args, **kwargs)

    return require_safe(checked)


def listed() -> DeploymentQuerySet:
    """Deployments as lists show them: with how many servers they have, and how many of them went well."""
    return (
        Deployment.objects.select_related("project", "created_by")
        .defer("plan")
        .annotate(
            servers=Count("targets"),
            servers_done=Count("targets", filter=Q(targets__status=Target.Status.SUCCESS)),
        )
        .order_by("-id")
    )


@require_safe
@login_required
def home(request: Request) -> HttpResponse:
    """What runs now, what needs attention, what ran lately."""
    return render(request, "deployer/home.html", _activity())


@fragment
def activity(request: Request) -> HttpResponse:
    """The part of the home page that changes by itself."""
    return render(request, "deployer/_activity.html", _activity())


def _activity() -> dict[str, Any]:
    newest = Deployment.objects.order_by().values("project").annotate(newest=Max("id")).values("newest")
    running = list(listed().active())
    recent = list(listed().ended()[:12])
    return {
        "running": running,
        "broken": listed()
        .ended()
        .filter(id__in=newest, status__in=[Deployment.Status.FAILED, Deployment.Status.INTERRUPTED]),
        "offline": Server.objects.filter(is_active=True, connection_status=Server.ConnectionStatus.OFFLINE),
        "recent": recent,
        "first_steps": [] if running or recent else _first_steps(),
    }


@dataclass(frozen=True)
class Step:
    """One thing to do before the first deployment."""

    title: str
    text: str
    done: bool
    admin_page: str


def _first_steps() -> list[Step]:
    return [
        Step(
            _("Add a credential"),
            _("The user name and the SSH key or password that log in to your servers."),
            Credential.objects.exists(),
            "admin:servers_credential_add",
        ),
        Step(
            _("Add a server and test its connection"),
            _("Its address and the credential. Nothing is installed on it."),
            Server.objects.exists(),
            "admin:servers_server_add",
        ),
        Step(
            _("Put servers into a group"),
            _("A group belongs to one environment; a deployment goes to groups."),
            ServerGroup.objects.exists(),
            "admin:servers_servergroup_add",
        ),
        Step(
            _("Add a project"),
            _("Where its code is, how it is built, which script restarts it."),
            Project.objects.exists(),
            "admin:projects_project_add",
        ),
    ]


@require_safe
@login_required
def history(request: Request) -> HttpResponse:
    """Every deployment, newest first."""
    form = HistoryFilter(request.GET)
    page = Paginator(listed().filter(**form.lookups()), HISTORY_PAGE).get_page(request.GET.get("page"))
    return render(request, "deployer/history.html", {"form": form, "page": page, "is_filtered": bool(form.lookups())})


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def launch_form(request: Request, pk: int) -> HttpResponse:
    """Choose what is launched, and launch it."""
    project = get_object_or_404(Project, pk=pk)
    groups = _groups_for(project)
    blocking, warning = None, ""
    if request.method == "POST":
        form = LaunchForm(request.POST)
        if form.is_valid():
            try:
                return redirect(launch(_wish(request.user, project, form.cleaned_data)))
            except LaunchRefusedError as refusal:
                form.add_error(refusal.field if refusal.field in form.fields else None, refusal.message)
                blocking = refusal.blocking
    else:
        form = LaunchForm(initial=_suggested(project, groups) | LaunchForm.chosen(request.GET))
        in_the_way = refusal_while_active(project)
        if in_the_way.blocking:
            blocking, warning = in_the_way.blocking, in_the_way.message
    return _launch_page(request, project, form, groups, blocking=blocking, warning=warning)


@require_POST
def launch_check(request: Request, pk: int) -> HttpResponse:
    """What stands in the way of this launch on each server. Launches nothing; the form stays as it was filled in."""
    if not request.user.is_authenticated:
        return HttpResponseClientRefresh() if request.htmx else redirect_to_login(reverse("launch", args=[pk]))
    project = get_object_or_404(Project, pk=pk)
    form = LaunchForm(request.POST)
    found: dict[str, Any] = {"checked": True}
    if form.is_valid():
        try:
            found["findings"] = _by_server(preflight_of(_wish(request.user, project, form.cleaned_data)))
        except LaunchRefusedError as refusal:
            found |= {"refusal": refusal.message, "blocking": refusal.blocking}
    else:
        found["refusal"] = " ".join(str(message) for errors in form.errors.values() for message in errors)
    if request.htmx:
        return render(request, "deployer/_findings.html", found)
    return _launch_page(request, project, LaunchForm(initial=_typed(request)), _groups_for(project), **found)


def _by_server(findings: list[Finding]) -> list[tuple[str, list[Finding]]]:
    """Findings grouped by server, the worst servers first, the worst findings of each first."""
    order = [Finding.ERROR, Finding.WARNING, Finding.INFO]
    servers: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: order.index(finding.level)):
        servers.setdefault(finding.server, []).append(finding)
    return list(servers.items())


def _typed(request: Request) -> dict[str, Any]:
    """What the launch form held, whether it was right or not."""
    names = ("deployment_type", "branch")
    return {name: request.POST.get(name, "") for name in names} | {
        "server_groups": request.POST.getlist("server_groups")
    }


def _groups_for(project: Project) -> QuerySet[ServerGroup]:
    return ServerGroup.objects.filter(environment=project.environment).prefetch_related("servers")


def _launch_page(
    request: Request, project: Project, form: LaunchForm, groups: QuerySet[ServerGroup], **more: Any
) -> HttpResponse:
    chosen = {str(value) for value in form["server_groups"].value() or ()}
    context = {"project": project, "form": form, "groups": groups, "chosen_groups": chosen}
    return render(request, "deployer/launch.html", context | more)


def _wish(user: User, project: Project, values: dict[str, Any]) -> Launch:
    return Launch(
        project=project,
        groups=list(values["server_groups"]),
        deployment_type=values["deployment_type"],
        branch=values["branch"],
        created_by=user,
    )


def _suggested(project: Project, groups: QuerySet[ServerGroup]) -> dict[str, Any]:
    """What the form proposes: a full deployment where there is something to build, the group if there is only one."""
    return {
        "deployment_type": Deployment.Type.FULL if project.git_url else Deployment.Type.RESTART_ONLY,
        "branch": project.default_branch,
        "server_groups": [group.pk for group in groups] if len(groups) == 1 else [],
    }


def _one(pk: int) -> Deployment:
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


def _rows(lines: list[LogLine], targets: list[Target], first_number: int) -> list[Row]:
    names = {target.pk: target.server_name for target in targets}
    return [Row(first_number + index, line, names.get(line.target_id or 0, "")) for index, line in enumerate(lines)]


def _state(deployment: Deployment, targets: list[Target]) -> str:
    """A short text that changes whenever the head of the page or its table of servers would."""
    seen = [
        (deployment.status, deployment.commit_hash, deployment.error_message),
        (deployment.cancel_requested_at, deployment.force_requested_at, deployment.finished_at, deployment.paused_at),
        *((t.status, t.exit_code, t.error, t.release_before, t.release_after, t.proof, t.started_at) for t in targets),
        *(t.evidence for t in targets),
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
    """One deployment: what it is, how each server fares, and the end of its log."""
    it = _one(pk)  # before the rows: once it has ended, no row follows those that are read now
    targets = list(it.targets.all())
    lines = list(it.log_lines.order_by("-id")[:LOG_ROWS])[::-1]
    last = it.log_lines.filter(id__lte=lines[-1].pk).count() if lines else 0
    return render(
        request,
        "deployer/deployment.html",
        {
            **_head(it, targets),
            "rows": _rows(lines, targets, last - len(lines) + 1),
            "earlier": last - len(lines),
            "after": lines[-1].pk if lines else 0,
            "next_number": last + 1,
            "follows": it.is_active,
        },
    )


@fragment
def deployment_poll(request: Request, pk: int) -> HttpResponse:
    """What is new since the last answer: log rows after an id, and the head and table if they have changed.

    The status is read before the rows: a deployment that had ended by then has no row that is missed.
    """
    it = _one(pk)
    targets = list(it.targets.all())
    after, number = _number(request, "after"), _number(request, "line") or 1
    lines = list(it.log_lines.filter(id__gt=after).order_by("id")[:LOG_ROWS])
    head = _head(it, targets)
    more = len(lines) == LOG_ROWS
    return render(
        request,
        "deployer/_poll.html",
        {
            **head,
            "rows": _rows(lines, targets, number),
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
    it = _one(pk)
    number = max(_number(request, "line"), 1)
    lines = list(it.log_lines.filter(id__lt=_number(request, "before")).order_by("-id")[:LOG_ROWS])[::-1]
    first = max(number - len(lines), 1)
    return render(
        request,
        "deployer/_earlier_answer.html",
        {
            "deployment": it,
            "rows": _rows(lines, list(it.targets.all()), first),
            "earlier": first - 1 if len(lines) == LOG_ROWS else 0,
        },
    )


@require_safe
@login_required
def deployment_log(request: Request, pk: int) -> HttpResponseBase:
    """The whole log as a text file, sent while it is read."""
    it = _one(pk)
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


@require_POST
@login_required
def deployment_cancel(request: Request, pk: int) -> HttpResponse:
    """Ask for a deployment to be stopped; with ``force``, for what runs on its servers to be ended too."""
    it = _one(pk)
    asked = it.request_cancel(force="force" in request.POST)
    say = messages.info if asked and not it.force_requested_at else messages.warning
    say(request, cancel_sentence(it, asked))
    return redirect(it)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def deployment_continue(request: Request, pk: int) -> HttpResponse:
    """Let a paused deployment go on; asked for by GET, say first what will happen."""
    it = _one(pk)
    if request.method == "POST":
        continued = it.continue_rollout()
        say = messages.success if continued else messages.warning
        say(request, continue_sentence(it, continued))
        return redirect(it)
    paused = Pause.of(it, list(it.targets.all()))
    if paused is None:
        messages.warning(request, continue_sentence(it, continued=False))
        return redirect(it)
    return render(request, "deployer/continue.html", {"deployment": it, "paused": paused})


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def deployment_retry(request: Request, pk: int) -> HttpResponse:
    """Launch the same again for the servers that did not succeed."""
    return _launch_from(request, _one(pk), wish_to_retry)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def deployment_rollback(request: Request, pk: int) -> HttpResponse:
    """Launch the release that was live before."""
    return _launch_from(request, _one(pk), wish_to_roll_back)


def _launch_from(request: Request, earlier: Deployment, wish_for: Callable[..., Launch]) -> HttpResponse:
    """Launch what follows from an earlier deployment; asked for by GET, say first what will happen and where."""
    try:
        wish = wish_for(earlier, created_by=request.user, trigger=Deployment.Trigger.WEB)
        if request.method == "POST":
            return redirect(launch(wish))
        servers = check_launch(wish)
        in_the_way = refusal_while_active(wish.project)
        if in_the_way.blocking:
            raise in_the_way
    except LaunchRefusedError as refusal:
        messages.error(request, _with_link(refusal))
        return redirect(earlier)
    batches = numbered(wish.project, [server for server in servers if server.is_active])
    context = {
        "deployment": earlier,
        "wish": wish,
        "is_restart_only": wish.deployment_type == Deployment.Type.RESTART_ONLY,
        "servers": [(server, batches.get(server)) for server in servers],
        "count": len(batches),
    }
    return render(request, "deployer/confirm.html", context)


def _with_link(refusal: LaunchRefusedError) -> str:
    """The words of a refusal, with a link to the deployment in the way."""
    if refusal.blocking is None:
        return refusal.message
    return format_html(
        "{} {}", refusal.message, render_to_string("deployer/_watch.html", {"blocking": refusal.blocking})
    )


@require_safe
@login_required
def deployment_again(request: Request, pk: int) -> HttpResponse:
    """The launch form, filled in as this deployment was launched."""
    it = _one(pk)
    chosen: dict[str, Any] = {
        "type": it.deployment_type,
        "group": list(it.server_groups.values_list("pk", flat=True)),
    }
    if it.branch:
        chosen["branch"] = it.branch
    return redirect(f"{reverse('launch', args=[it.project_id])}?{urlencode(chosen, doseq=True)}")
