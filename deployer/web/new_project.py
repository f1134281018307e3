"""A new project in two short steps: where its code is, then how it is built and restarted, as it was guessed."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from deployer.repositories.mirror import Look, look_at
from deployer.web.services import OFFERED, asked, servers_to_ask
from people.access import Request, needs_somewhere
from people.roles import Action
from projects.commands.build import automatic_install
from projects.commands.services.kind import Does
from projects.commands.services.kinds import own_command
from projects.forms import GuidedForm, StartForm
from projects.guess.examples import example_header, example_script, pid_file
from projects.guess.guessing import guess, suggested_script
from projects.guess.proposal import TELLING, Guess, short_name
from projects.models import Project
from servers.errors import NotReadyError
from servers.models import Environment


@require_http_methods(["GET", "HEAD", "POST"])
@needs_somewhere(Action.EDIT, in_an_environment=True)
def project_add(request: Request) -> HttpResponse:
    """The first step; and what the second one sends: then the project is there."""
    if request.method != "POST":
        return _answer(request, {"start": StartForm(user=request.user)})
    form = GuidedForm(request.POST, user=request.user)
    if form.is_valid():
        return redirect("project", form.save().pk)
    # What was seen of the repository comes back with the form, only to be shown again.
    found = Guess(project_type=str(form["project_type"].value()), start=request.POST.get("start", ""))
    seen = Look(request.POST.getlist("branches"), "", {})
    return _answer(request, _second_step(request, form, seen, found, request.POST.get("install", "")))


@require_POST
@needs_somewhere(Action.EDIT, in_an_environment=True)
def project_add_look(request: Request) -> HttpResponse:
    """Look at the repository that the first step names; the second step then proposes what was guessed."""
    start = StartForm(request.POST, user=request.user)
    if "back" in request.POST:
        return _answer(request, {"start": StartForm(initial=request.POST.dict(), user=request.user)})
    if not start.is_valid():
        return _answer(request, {"start": start})
    values = start.cleaned_data
    try:
        seen = _seen(values, request.POST.get("default_branch", ""))
    except NotReadyError as error:
        start.add_error("git_url", str(error))
        return _answer(request, {"start": start})
    found = guess(seen.files) if seen.files else Guess()
    path = request.POST.get("deploy_path") or f"/srv/{short_name(values['name'])}"
    install = automatic_install(found.project_type, seen.files)
    script = suggested_script(seen.files, found, path)
    proposed = {
        **request.POST.dict(),
        **found.fields(),
        "ready_steps": found.ready_steps,
        "default_branch": seen.branch or Project().default_branch,
        "deploy_path": path,
        "deploy_script_path": script,
    }
    if not script and found.service_kind == Project.ServiceKind.PROCESS:  # it works as it stands
        proposed["restart_script"] = example_script(found, values["name"])
        proposed["service_name"] = pid_file(found, values["name"], path)
    form = GuidedForm(initial=proposed, user=request.user)
    return _answer(request, _second_step(request, form, seen, found, install))


@require_POST
@needs_somewhere(Action.EDIT, in_an_environment=True)
def project_add_find(request: Request) -> HttpResponse:
    """Ask a server which services it has, for the second step; or put one that was found into its form."""
    values = request.POST.dict()
    kind, _space, name = request.POST.get("take", "").partition(" ")
    found = Guess(project_type=values.get("project_type", ""), start=values.get("start", ""))
    if name:
        values |= {"service_kind": kind, "service_name": name}
        example = example_script(found, values.get("name", ""))
        if own_command([(kind, name)], Does.RESTART) and values.get("restart_script", "").split() == example.split():
            values["restart_script"] = ""  # nobody has written it, and it would come before the kind's own restart
    boxes = {box: box in values for box in ("auto_install", "submodules", "lfs", "names_release")}
    picked = {"ready_steps": request.POST.getlist("ready_steps")}
    form = GuidedForm(initial={**values, **boxes, **picked}, user=request.user)
    seen = Look(request.POST.getlist("branches"), "", {})
    context = _second_step(request, form, seen, found, request.POST.get("install", ""))
    if not name:
        number = request.POST.get("server", "")
        rows = servers_to_ask(request.user).select_related("credential", "jump_host")
        server = get_object_or_404(rows, pk=int(number) if number.isdecimal() else 0)
        context |= {"asked": server, **asked(server, server)}
    return _answer(request, context)


def _seen(values: dict[str, Any], branch: str) -> Look:
    if not values["git_url"]:
        return Look([], "", {})
    return look_at(values["git_url"], values["git_credential"], TELLING, branch)


def _second_step(request: Request, form: GuidedForm, seen: Look, found: Guess, install: str) -> dict[str, Any]:
    """The context of the second step's page, apart from its form."""
    return {
        "form": form,
        "servers": servers_to_ask(request.user)[:OFFERED],
        "seen": seen,
        "found": found,
        "install": install,
        "environment": dict(Environment.choices).get(str(form["environment"].value()), ""),
        "has_code": bool(form["git_url"].value()),
        "example": example_script(found, str(form["name"].value() or "")),
        "example_header": example_header(found),
    }


def _answer(request: Request, context: dict[str, Any]) -> HttpResponse:
    name = "deployer/_new_project.html" if request.htmx else "deployer/new_project.html"
    return render(request, name, context)
