"""Create, change and delete servers, groups and credentials, for people who maintain where those are."""

from typing import Any

from django.contrib import messages
from django.db import models
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from pages.forms import as_sent
from people.access import Request, find, members_only, needs_somewhere
from people.recorded_forms import ComparedForm
from people.refusals import RefusedError
from people.roles import Action
from servers.forms import GroupForm, LoginForm, ServerForm
from servers.models import Credential, Server, ServerGroup
from servers.removal import obstacle_to, remove

#: The list that a form belongs to, by the name of its address.
SECTIONS: dict[type[models.Model], str] = {Server: "servers", ServerGroup: "groups", Credential: "credentials"}


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
    groups = [*server.groups.all()]
    consequences = [
        _("Nothing is changed on the machine itself. The software deployed there keeps running."),
        _("The record of its deployments is kept; the record of what was last seen there is deleted."),
    ]
    if groups:
        names = ", ".join(map(str, groups))
        consequences.insert(0, _("It is removed from these groups, and deployments no longer reach it: %s.") % names)
    consequences += _files_of(server)
    return _delete(request, server, consequences, reverse("server", args=[pk]))


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
    return _delete(request, group, consequences, reverse("group", args=[pk]))


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
    return _delete(request, credential, consequences, reverse("credentials"))


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


def _delete(request: Request, it: models.Model, consequences: list[str], back: str) -> HttpResponse:
    """Explain a deletion and its obstacles; delete after a POST."""
    section = SECTIONS[type(it)]
    if request.method == "POST":
        name = str(it)
        try:
            remove(it, request.user)
        except RefusedError as error:
            obstacle = str(error)
        else:
            messages.success(request, _("%s is deleted.") % name)
            return redirect(section)
    else:
        obstacle = obstacle_to(it, request.user)
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
