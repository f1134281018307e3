"""Pages that show the machines, and the button that tests the way to one of them."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from servers.connection import ConnectionReport, test_connection
from servers.keys import fingerprint
from servers.models import Server


@require_safe
@login_required
def server_list(request: HttpRequest) -> HttpResponse:
    """Every server and what the last connection to it found."""
    servers = Server.objects.select_related("jump_host").prefetch_related("groups")
    return render(request, "servers/list.html", {"servers": servers})


@require_safe
@login_required
def server(request: HttpRequest, pk: int) -> HttpResponse:
    """One server: how it is reached, which key it is known by, what the last connection found."""
    it = get_object_or_404(_with_login(), pk=pk)
    return render(
        request,
        "servers/server.html",
        {"server": it, "fingerprint": fingerprint(it.host_key), "route": it.route()[:-1]},
    )


@require_POST
@login_required
def server_test(request: HttpRequest, pk: int) -> HttpResponse:
    """Connect to a server now and say what came of it."""
    report = test_connection(get_object_or_404(Server.objects.select_related("credential"), pk=pk))
    messages.add_message(request, messages.SUCCESS if report.ok else messages.ERROR, _told(report))
    return redirect("server", pk)


def _with_login() -> QuerySet[Server]:
    """Servers with the name of their login, but without its secrets."""
    return Server.objects.select_related("credential", "jump_host").defer(
        "credential__private_key", "credential__passphrase", "credential__password"
    )


def _told(report: ConnectionReport) -> str:
    """A report in sentences: what happened, why, what to do."""
    first = _("The host key was seen for the first time and is pinned now: %s.") % report.fingerprint
    sentences = [report.why, report.remedy, first if report.pinned_now else ""]
    return format_html(
        "<strong>{}</strong>{}", report.what, format_html_join("", " {}", ((text,) for text in sentences if text))
    )
