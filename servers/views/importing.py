"""Import servers and groups from a file of another tool: read it, preview the changes, import the ticked rows."""

from dataclasses import asdict
from typing import Any

from django.contrib import messages
from django.core import signing
from django.core.exceptions import ValidationError
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from pages.forms import LISTED
from people.access import Request, needs_somewhere
from people.roles import Action
from servers.forms import ImportForm
from servers.imports.comparing import ImportPlan
from servers.imports.listing import Listing
from servers.imports.rows import Choices
from servers.imports.taking import Done, take
from servers.models import Environment

#: A list that was previewed longer ago than this has to be read again.
LOOKED_AT_WITHIN = 24 * 3600
_SALT = "servers.import"

importers_only = needs_somewhere(Action.EDIT, in_an_environment=True)


@require_http_methods(["GET", "HEAD", "POST"])
@importers_only
def server_import(request: Request) -> HttpResponse:
    """The form; after a POST the contents of the file, beside the existing rows. Nothing is changed."""
    form = ImportForm(request.POST, request.FILES) if request.method == "POST" else ImportForm()
    if form.is_valid():
        listing = form.cleaned_data["listing"]
        plan = ImportPlan(listing, request.user)
        return _preview(request, listing, plan, plan.proposed())
    return render(request, "servers/import.html", {"form": form})


@require_POST
@importers_only
def server_import_take(request: Request) -> HttpResponse:
    """Create and change the ticked rows, all of them or none."""
    try:
        values = signing.loads(request.POST.get("listing", ""), salt=_SALT, max_age=LOOKED_AT_WITHIN)
    except signing.BadSignature:
        messages.error(request, _("Nothing was imported: the list is too old. Choose the file again."))
        return redirect("server_import")
    listing, choices = Listing.of(values), _choices(request.POST)
    try:
        done = take(ImportPlan(listing, request.user), choices)
    except ValidationError as error:
        return _preview(request, listing, ImportPlan(listing, request.user), choices, " ".join(error.messages))
    messages.success(request, _told(done))
    return redirect("servers" if done.made or done.changed else "groups")


def _preview(request: Request, listing: Listing, plan: ImportPlan, choices: Choices, error: str = "") -> HttpResponse:
    context: dict[str, Any] = {
        "plan": plan,
        "choices": choices,
        "error": error,
        "listing": signing.dumps(asdict(listing), salt=_SALT, compress=True),
        "logins": [(login, _chosen(plan, choices.credentials.get(login.number, ""))) for login in plan.logins],
        "listed": LISTED,
        "groups": [(group, choices.environments.get(group.number, group.environment)) for group in plan.groups],
        "environments": [(value, label) for value, label in Environment.choices if value in plan.environments],
        "counts": plan.counts(),
    }
    return render(request, "servers/import_preview.html", context)


def _chosen(plan: ImportPlan, chosen: str) -> str:
    """What was chosen for a login as its box has it: a name where there are many credentials, else an id."""
    if len(plan.credentials) <= LISTED:
        return chosen
    return next((credential.name for credential in plan.credentials if str(credential.pk) == chosen), chosen)


def _choices(posted: QueryDict) -> Choices:
    def numbered(prefix: str) -> dict[int, str]:
        names = [(name, name.removeprefix(prefix)) for name in posted if name.startswith(prefix)]
        return {
            int(number): str(posted[name])
            for name, number in names
            if number.isascii() and number.isdigit() and len(number) < 10
        }

    return Choices(
        servers=set(posted.getlist("server")),
        groups=set(posted.getlist("group")),
        environments=numbered("environment-"),
        credentials=numbered("credential-"),
    )


def _told(done: Done) -> str:
    return _("Imported: %(made)d new servers, %(changed)d changed, %(groups)d groups. Test the connections now.") % {
        "made": done.made,
        "changed": done.changed,
        "groups": done.groups,
    }
