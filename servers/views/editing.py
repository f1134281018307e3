"""Create, change and delete servers, groups and credentials, for people who maintain where those are."""

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from django.contrib import messages
from django.db import DEFAULT_DB_ALIAS, IntegrityError, models
from django.db.models import ProtectedError
from django.db.models.deletion import Collector
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from pages.forms import as_sent
from people.access import Request, find, members_only, needs_somewhere
from people.record import delete
from people.recorded_forms import ComparedForm
from people.rights import Person, may
from people.roles import Action
from servers.forms import GroupForm, LoginForm, ServerForm, left_without_group
from servers.models import Credential, Server, ServerGroup

#: The list that a form belongs to, by the name of its address.
SECTIONS: dict[type[models.Model], str] = {Server: "servers", ServerGroup: "groups", Credential: "credentials"}


@runtime_checkable
class Obstacle(Protocol):
    """A row that says why what it uses cannot be deleted now; it may be of a floor above."""

    @property
    def obstacle(self) -> str:
        """A sentence with the remedy; empty where it has none."""
        ...


#: Rows that an obstacle names.
_NAMED = 10

form_page = require_http_methods(["GET", "HEAD", "POST"])
maintainers_only = needs_somewhere(Action.EDIT, in_an_environment=True)


@form_page
@maintainers_only
def server_add(request: Request) -> HttpResponse:
    """A new server."""
    form = as_sent(ServerForm, request.POST, initial={"groups": request.GET.getlist("group")}, user=request.user)
    return _form(request, form, _("Add a server"), reverse("servers"))


@form_page
@members_only
def server_edit(request: Request, pk: int) -> HttpResponse:
    """How a server is reached."""
    server = find(request.user, Server.objects, Action.EDIT, pk=pk)
    form = as_sent(ServerForm, request.POST, instance=server, user=request.user)
    return _form(request, form, _("Edit %s") % server, reverse("server", args=[pk]))


@form_page
@members_only
def server_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a server."""
    server = find(request.user, Server.objects, Action.EDIT, pk=pk)
    groups, behind = [*server.groups.all()], [*server.reached_through.all()]
    consequences = [
        _("Nothing is changed on the machine itself. The software deployed there keeps running."),
        _("The record of its deployments is kept; the record of what was last seen there is deleted."),
    ]
    if groups:
        names = ", ".join(map(str, groups))
        consequences.insert(0, _("It is removed from these groups, and deployments no longer reach it: %s.") % names)
    consequences += _files_of(server)
    obstacle = ""
    if behind:
        obstacle = _("These servers are reached through it: %s. Give them another jump host first.") % _names(
            behind, request.user
        )
    return _delete(request, server, consequences, obstacle, reverse("server", args=[pk]))


@form_page
@maintainers_only
def group_add(request: Request) -> HttpResponse:
    """A new group."""
    return _form(request, as_sent(GroupForm, request.POST, user=request.user), _("Add a group"), reverse("groups"))


@form_page
@members_only
def group_edit(request: Request, pk: int) -> HttpResponse:
    """The name, the environment and the servers of a group."""
    group = find(request.user, ServerGroup.objects, Action.EDIT, pk=pk)
    form = as_sent(GroupForm, request.POST, instance=group, user=request.user)
    return _form(request, form, _("Edit %s") % group, reverse("group", args=[pk]))


@form_page
@members_only
def group_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a group."""
    group = find(request.user, ServerGroup.objects, Action.EDIT, pk=pk)
    consequences = [
        _("Its servers are kept, in their other groups or in none."),
        _("Deployments to it stay in the history, without the name of the group."),
        *_files_of(group),
    ]
    obstacle = ""
    if lost := left_without_group([*group.servers.all()], group, request.user):
        obstacle = _("These servers are in no other group, and would be out of your reach: %s.") % ", ".join(
            map(str, lost)
        )
    return _delete(request, group, consequences, obstacle, reverse("group", args=[pk]))


@form_page
@maintainers_only
def credential_add(request: Request) -> HttpResponse:
    """A new login."""
    return _form(
        request, LoginForm(request.POST or None, user=request.user), _("Add a credential"), reverse("credentials")
    )


@form_page
@members_only
def credential_edit(request: Request, pk: int) -> HttpResponse:
    """A login; its secrets can be replaced and not be read."""
    credential = find(request.user, Credential.objects, Action.EDIT, pk=pk)
    form = LoginForm(request.POST or None, instance=credential, user=request.user)
    return _form(request, form, _("Edit %s") % credential, reverse("credentials"))


@form_page
@members_only
def credential_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a login."""
    credential = find(request.user, Credential.objects.only("name", "environment"), Action.EDIT, pk=pk)
    consequences = [_("Its key and password are deleted and cannot be restored.")]
    users = [*credential.servers.all()]
    obstacle = ""
    if users:
        obstacle = _("Servers log in with it: %s. Give them another credential first.") % _names(users, request.user)
    return _delete(request, credential, consequences, obstacle, reverse("credentials"))


def _form(request: Request, form: ComparedForm[Any], title: str, back: str) -> HttpResponse:
    """A form as it was filled in; once it is valid it is saved, and leads to the saved row."""
    if form.keep():
        made = form.instance
        messages.success(request, _("%s is saved.") % made)
        return redirect(_page_of(made))
    model = form._meta.model
    context = {"form": form, "title": title, "back": back, "kind": model._meta.model_name, "section": SECTIONS[model]}
    return render(request, "servers/form.html", context)


def _page_of(made: models.Model) -> str:
    match made:
        case Server():
            return reverse("server", args=[made.pk])
        case ServerGroup():
            return reverse("group", args=[made.pk])
    return reverse("credentials")


def _delete(request: Request, it: models.Model, consequences: list[str], obstacle: str, back: str) -> HttpResponse:
    """Explain a deletion and its obstacles; delete after a POST."""
    obstacle = obstacle or _hold(it, request.user)
    section = SECTIONS[type(it)]
    if request.method == "POST" and not obstacle:
        name = str(it)
        try:
            delete(it)
        except (ProtectedError, IntegrityError):
            obstacle = _hold(it, request.user) or _("Somebody has just started to use it: look again.")
        else:
            messages.success(request, _("%s is deleted.") % name)
            return redirect(section)
    context: dict[str, Any] = {"it": it, "consequences": consequences, "obstacle": obstacle, "back": back}
    context["section"] = section
    return render(request, "servers/delete.html", context)


def _files_of(it: Any) -> list[str]:
    """What becomes of the config files that are for ``it`` alone; projects, of the floor above, have them."""
    number = it.config_files.count()
    told = ngettext(
        "%d config file that is for it alone is deleted here, and stays on the machines.",
        "%d config files that are for it alone are deleted here, and stay on the machines.",
        number,
    )
    return [told % number] if number else []


def _hold(it: models.Model, user: Person) -> str:
    """The rows that prevent a deletion, found in the same way as the deletion finds them."""
    try:
        Collector(using=DEFAULT_DB_ALIAS, origin=it).collect([it])
    except ProtectedError as error:
        users = sorted(error.protected_objects, key=str)
        sentences = [it.obstacle for it in users[:_NAMED] if isinstance(it, Obstacle) and _is_seen(it, user)]
        return " ".join(filter(None, sentences)) or _("It is still used by %s.") % _names(users, user)
    return ""


def _names(rows: Iterable[models.Model], user: Person) -> str:
    """Some of ``rows`` by name, and that there are others; those out of sight are not named."""
    rows = [*rows]
    shown = [str(row) for row in rows if _is_seen(row, user)][:_NAMED]
    return ", ".join([*shown, *([_("others")] if len(shown) < len(rows) else [])])


def _is_seen(row: Any, user: Person) -> bool:
    """Whether ``user`` is shown a row; a credential, only if they may edit it."""
    return may(user, Action.EDIT if isinstance(row, Credential) else Action.SEE, row)
