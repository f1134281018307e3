"""Commands on servers: those that are saved, the form that runs one, each run with its servers and its log."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from deployer.commanding.asked import CommandRefusedError
from deployer.commanding.launch import cancel_command, cancel_sentence, run_command
from deployer.commanding.outputs import outputs_of
from deployer.log.books import COMMANDS
from deployer.log.reading import LOG_ROWS, LogRow, News, seen
from deployer.log.text import text_of
from deployer.models import CommandLine, CommandRun, CommandTarget, SavedCommand
from deployer.web.command_forms import Parameters, RunForm, SavedCommandForm
from deployer.web.downloads import download
from deployer.web.request import Pass, fragment
from pages.forms import as_sent
from people.access import Request, find, members_only, needs_somewhere
from people.record import Act, actor, delete, record
from people.rights import Person, insist, may, reach
from people.roles import EVERYWHERE, Action

#: Runs that the list shows on a page.
RUNS_PAGE = 30

form_page = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
@members_only
def commands(request: Request) -> HttpResponse:
    """The saved commands in sight, and what was run, newest first."""
    user = request.user
    rows = SavedCommand.objects.reached_by(user).prefetch_related("parameters")
    saved = [(it, _may_run_somewhere(user, it), may(user, Action.COMMAND, it)) for it in rows]
    runs = CommandRun.objects.reached_by(user).select_related("created_by").order_by("-id")
    context = {
        "saved": saved,
        "page": Paginator(runs, RUNS_PAGE).get_page(request.GET.get("page")),
        "may_command": reach(user, Action.COMMAND).holds_an_environment,
        "sees_runs": reach(user, Action.RUN).holds_an_environment,
    }
    return render(request, "deployer/commands/list.html", context)


def _may_run_somewhere(user: Person, it: SavedCommand) -> bool:
    return any(may(user, it.action, place) for place in it.seen_from)


@form_page
@needs_somewhere(Action.COMMAND, in_an_environment=True)
def command_add(request: Request) -> HttpResponse:
    """A new saved command."""
    return _edit(request, SavedCommand(), _("Save a command"))


@form_page
@members_only
def command(request: Request, pk: int) -> HttpResponse:
    """A saved command and its parameters, to be edited."""
    it = find(request.user, SavedCommand.objects, Action.COMMAND, pk=pk)
    return _edit(request, it, _("Edit %s") % it)


def _edit(request: Request, it: SavedCommand, title: str) -> HttpResponse:
    form = SavedCommandForm(request.POST or None, instance=it, user=request.user)
    rows: Any = Parameters(request.POST or None, instance=it)
    if request.method == "POST":
        with transaction.atomic():
            if rows.is_valid() and form.keep():
                rows.instance = form.instance
                rows.save()
                messages.success(request, _("Saved. Commands that run keep the text that they were begun with."))
                return redirect("commands")
    context = {"form": form, "rows": rows, "command": it, "title": title}
    return render(request, "deployer/commands/edit.html", context)


@form_page
@members_only
def command_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a saved command; what was run stays."""
    it = find(request.user, SavedCommand.objects, Action.COMMAND, pk=pk)
    if request.method == "POST":
        delete(it)
        messages.success(request, _("“%s” was deleted.") % it)
        return redirect("commands")
    consequences = [_("What was run by it stays, with its text and its log.")]
    context = {"it": it, "consequences": consequences, "back": reverse("commands"), "section": "commands"}
    return render(request, "servers/delete.html", context)


@form_page
@members_only
def command_form(request: Request) -> HttpResponse:
    """Choose servers and run a command there: the saved one of ``command``, or a line of one's own."""
    number = request.GET.get("command", "")
    saved = None
    if number:
        if not (number.isdecimal() and len(number) < 19):
            raise Http404
        saved = find(request.user, SavedCommand.objects.prefetch_related("parameters"), pk=int(number))
        if not _may_run_somewhere(request.user, saved):
            insist(request.user, saved.action, saved)
    elif not reach(request.user, Action.COMMAND).holds_an_environment:
        insist(request.user, Action.COMMAND, EVERYWHERE)
    chosen = {"servers": request.GET.getlist("server"), "groups": request.GET.getlist("group")}
    form = as_sent(RunForm, request.POST, initial=chosen, user=request.user, saved=saved)
    if form.is_bound and form.is_valid():
        try:
            return redirect(run_command(form.request()))
        except CommandRefusedError as refusal:
            field = refusal.field if refusal.field in form.fields else form.box_of(refusal.field)
            form.add_error(field if field in form.fields else None, refusal.message)
    context = {"form": form, "saved": saved, "wide": "script"}
    return render(request, "deployer/commands/form.html", context)


# --- one run -----------------------------------------------------------------------------------------


def _shown(user: Person, pk: int, action: Action = Action.SEE) -> CommandRun:
    return find(user, CommandRun.objects.select_related("created_by", "command"), action, pk=pk)


def _head(user: Person, run: CommandRun, targets: list[CommandTarget]) -> dict[str, Any]:
    return {
        "run": run,
        "targets": targets,
        "values": run.shown_values(),
        "may_stop": run.is_active and may(user, Action.RUN, run),
        "outputs": [] if run.is_active else outputs_of(run, targets),
        "seen": seen(run, targets),
        "again": run.command is not None and _may_run_somewhere(user, run.command),
    }


def _rows(lines: list[CommandLine], targets: list[CommandTarget]) -> list[LogRow]:
    names = {target.pk: target.server_name for target in targets}
    return [LogRow.of(line, names.get(line.target_id or 0, "")) for line in lines]


def _pass(request: HttpRequest, pk: int, server: int) -> Pass:
    return Pass(request, "command", pk, server)


def _server(request: HttpRequest) -> int:
    """The server of the run whose lines alone are wanted; 0 for all."""
    text = request.GET.get("server", "")
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _poll_address(pk: int, after: int, seen_as: str, given: str, server: int) -> str:
    query = {"after": after, "seen": seen_as, "pass": given, **({"server": server} if server else {})}
    return f"{reverse('command_poll', args=[pk])}?{urlencode(query)}"


@require_safe
@members_only
def command_run(request: Request, pk: int) -> HttpResponse:
    """One run: what, by whom, how it ended on each server, what each printed, and the end of its log."""
    run = _shown(request.user, pk)
    targets = [*run.targets.all()]
    server = _server(request)
    newest = CommandLine.objects.of(pk).reverse().only("number").first() or CommandLine(pk=0)
    lines = CommandLine.objects.of(pk).filter(id__lte=newest.pk)
    if server:
        lines = lines.filter(target=server)
    found = [*lines.reverse()[:LOG_ROWS]][::-1]
    head = _head(request.user, run, targets)
    context = {
        **head,
        "rows": _rows(found, targets),
        "chosen": server,
        **_earlier(pk, found, server),
        "last_number": newest.number,
        "follows": run.is_active,
        "poll": _poll_address(pk, newest.pk, head["seen"], _pass(request, pk, server).new(), server),
    }
    return render(request, "deployer/commands/run.html", context)


def _earlier(pk: int, found: list[CommandLine], server: int) -> dict[str, int]:
    """How many lines are before those that were found, and before which id."""
    if len(found) < LOG_ROWS:
        return {"earlier": 0, "before": 0}
    before = CommandLine.objects.of(pk).filter(id__lt=found[0].pk)
    return {"earlier": (before.filter(target=server) if server else before).count(), "before": found[0].pk}


@require_safe
def command_poll(request: Request, pk: int) -> HttpResponse:
    """The news since the last answer, asked in one statement; with a good pass the user is not looked up for it."""
    server = _server(request)
    given = request.GET.get("pass", "")
    is_known = _pass(request, pk, server).is_good(given)
    if not is_known:
        if not request.user.is_authenticated:
            return HttpResponseClientRefresh()
        _shown(request.user, pk)
        given = _pass(request, pk, server).new()
    after = request.GET.get("after", "")
    news = News.of(pk, int(after) if after.isdecimal() and len(after) < 19 else 0, COMMANDS)
    if news is None:
        raise Http404
    changed = news.seen != request.GET.get("seen")
    if is_known and news.is_active and not news.rows and not changed:
        return HttpResponse(status=204, headers={"Cache-Control": "no-store"})
    context: dict[str, Any] = {"rows": news.rows, "more": news.is_full, "follows": news.follows, "changed": changed}
    if changed:
        if not request.user.is_authenticated:
            return HttpResponseClientRefresh()  # the pass was still good, the session is not
        run = _shown(request.user, pk)
        context |= _head(request.user, run, [*run.targets.all()]) | {"chosen": server}
    if server and news.rows:
        ids = {row.pk for row in news.rows}
        wanted = {*CommandLine.objects.filter(pk__in=ids, target=server).values_list("pk", flat=True)}
        context["rows"] = [row for row in news.rows if row.pk in wanted]
    context["poll"] = _poll_address(pk, news.last_id, news.seen, given, server)
    return render(request, "deployer/commands/_poll.html", context)


@fragment
def command_earlier(request: Request, pk: int) -> HttpResponse:
    """The log rows before an id."""
    run = _shown(request.user, pk)
    text = request.GET.get("before", "")
    before = int(text) if text.isdecimal() and len(text) < 19 else 0
    server = _server(request)
    lines = CommandLine.objects.of(pk).filter(id__lt=before)
    if server:
        lines = lines.filter(target=server)
    found = [*lines.reverse()[:LOG_ROWS]][::-1]
    context = {"run": run, "rows": _rows(found, [*run.targets.all()]), "chosen": server, "oob": True}
    return render(request, "deployer/commands/_earlier_answer.html", context | _earlier(pk, found, server))


@require_safe
@members_only
def command_log(request: Request, pk: int) -> HttpResponseBase:
    """The whole log as a text file, sent while it is read."""
    run = _shown(request.user, pk)
    answer = download(text_of(run), f"command-{slugify(run.name)[:40] or 'run'}-{run.pk}.log")
    if answer is None:
        messages.warning(request, _("Other logs are being downloaded at this moment: try again in a minute."))
        return redirect(run)
    record(actor(), Act.DOWNLOADED, run, note=gettext_noop("log"))
    return answer


@require_POST
@members_only
def command_cancel(request: Request, pk: int) -> HttpResponse:
    """Stop a run: what runs on servers is ended with all that it started."""
    run = _shown(request.user, pk, Action.RUN)
    asked = cancel_command(run)
    messages.add_message(request, messages.INFO if asked else messages.WARNING, cancel_sentence(run, asked))
    return redirect(run)
