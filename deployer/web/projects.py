"""The projects with their deployments: the list, the page of one, its YAML, and its health checks tried now."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_POST, require_safe

from deployer.archiving.removal import right_to_delete
from deployer.board.values import news_of
from deployer.declaring.export import as_yaml, template_as_yaml
from deployer.gates.line import count_ahead
from deployer.models import Deployment, TriggerHold
from deployer.notices.outbox import channels_of
from deployer.probing.trial import Trial, try_check
from deployer.releases.caches import caches_of, clear_caches, size_of
from deployer.releases.isolation import isolation
from deployer.web.forms import ServerOfProject
from people.access import Request, find, members_only
from people.record import Act, actor, record
from people.rights import may, reach
from people.roles import Action
from projects.effective import DEPLOY
from projects.given import given_to
from projects.guess.proposal import short_name
from projects.models import HealthCheck, Project, Template
from projects.shown import one_project, servers_to_launch, shown_effective
from servers.models import Server

#: Deployments that the page of a project shows, and projects on a page of the list.
DEPLOYMENTS_SHOWN, PROJECTS_PAGE = 10, 50


@require_safe
@members_only
def project_list(request: Request) -> HttpResponse:
    """The projects, each with its newest deployment; with ``?archived`` those that are archived, the last one first."""
    text = request.GET.get("text", "")[:100]
    seen, is_archive = Project.objects.reached_by(request.user), "archived" in request.GET
    found = seen.archived().select_related("archived_by").order_by("-archived_at") if is_archive else seen.current()
    if text:
        found = found.filter(Q(name__icontains=text) | Q(description__icontains=text))
    page = Paginator(found, PROJECTS_PAGE).get_page(request.GET.get("page"))
    ids = [project.pk for project in page]
    own = Deployment.objects.reached_by(request.user).filter(project__in=ids)
    context = {
        "page": page,
        "text": text,
        "is_archive": is_archive,
        "numbers": seen.aggregate(current=Count("pk", Q(archived_at=None)), archived=Count("archived_at")),
        "newest": {it.project_id: it for it in own.newest().listed()},
        "operable": {it.pk for it in page if not is_archive and may(request.user, Action.OPERATE, it)},
        "editable": {it.pk for it in page if is_archive and may(request.user, Action.EDIT, it)},
        "addable": reach(request.user, Action.EDIT).holds_an_environment,
    }
    return render(request, "deployer/projects/list.html", context)


@require_safe
@members_only
def project(request: Request, pk: int) -> HttpResponse:
    """One project: how it is built, restarted and checked, where it can go, and its newest deployments."""
    own = Deployment.objects.reached_by(request.user).listed().filter(project=pk)
    recent, in_line = own[:DEPLOYMENTS_SHOWN], list(own.in_line()[:DEPLOYMENTS_SHOWN])
    count_ahead(in_line)
    addable = reach(request.user, Action.EDIT).holds_an_environment
    context = one_project(request.user, pk) | {"recent": recent, "in_line": in_line, "addable": addable}
    it = context["project"]
    context["held"] = TriggerHold.objects.open().filter(project=it).first()
    context["channels"] = [channel for channel in channels_of(it) if may(request.user, Action.SEE, channel)]
    context["news"] = None if it.is_archived else news_of(it)
    context["deletable"] = may(request.user, right_to_delete(context["project"]), context["project"])
    return render(request, "deployer/projects/project.html", context)


@require_safe
@members_only
def project_effective(request: Request, pk: int) -> HttpResponse:
    """Which variables count on one server of a project, and what gives each: ``?server=``, by its number or name."""
    it = find(request.user, Project.objects, pk=pk)
    form = ServerOfProject(request.GET, user=request.user, project=it)
    server = form.chosen
    given = given_to(it, shown=True)
    values = given.values([server.pk] if server else [])
    context = {
        "project": it,
        "form": form,
        "server": server,
        "rows": shown_effective((values.on(server.pk) if server else values.everywhere(DEPLOY)).values()),
        "clashes": [clash.name for clash in given.clashes([server.pk])] if server else [],
    }
    return render(request, "deployer/projects/effective.html", context)


@require_safe
@members_only
def project_builds(request: Request, pk: int) -> HttpResponse:
    """How builds are kept apart here, and what this project's package managers keep: a part of its page."""
    it = find(request.user, Project.objects, pk=pk)
    context = {"project": it, "isolation": isolation(), "kept": size_of(caches_of(pk))}
    return render(request, "deployer/projects/_builds.html", context)


@require_POST
@members_only
def project_clear(request: Request, pk: int) -> HttpResponse:
    """Delete the project's caches; not under a build that uses them."""
    it = find(request.user, Project.objects, Action.EDIT, pk=pk)
    it.insist_on_current()
    if active := Deployment.objects.at_work().filter(project=it).first():
        told = _("%(active)s has not ended and may use the caches of %(project)s: clear them afterwards.")
        messages.error(request, told % {"active": active, "project": it})
    else:
        clear_caches(it.pk)
        record(actor(), Act.DELETED, it, note=gettext_noop("the caches of its builds"))
        messages.success(request, _("The caches of %s are cleared: its next build fetches everything again.") % it)
    return redirect(f"{reverse('project', args=[pk])}#builds")


@require_safe
@members_only
def project_yaml(request: Request, pk: int) -> HttpResponse:
    """The project as `deployer apply` takes it; a file of it with ``?download``."""
    it = find(request.user, Project.objects.select_related("git_credential"), pk=pk)
    it.insist_on_current()
    sees_login = it.git_credential is None or may(request.user, Action.EDIT, it.git_credential)
    text = as_yaml(it, sees_login=sees_login)
    if "download" in request.GET:
        record(actor(), Act.DOWNLOADED, it, note="YAML")
        answer = HttpResponse(text, content_type="application/yaml; charset=utf-8")
        answer["Content-Disposition"] = content_disposition_header(True, f"{short_name(it.name)}.yaml")
        return answer
    return render(request, "deployer/yaml.html", {"project": it, "yaml": text})


@require_safe
@members_only
def template_yaml(request: Request, pk: int) -> HttpResponse:
    """The template as `deployer apply` takes it; a file of it with ``?download``."""
    it = find(request.user, Template.objects, pk=pk)
    text = template_as_yaml(it)
    if "download" in request.GET:
        record(actor(), Act.DOWNLOADED, it, note="YAML")
        answer = HttpResponse(text, content_type="application/yaml; charset=utf-8")
        answer["Content-Disposition"] = content_disposition_header(True, f"{short_name(it.name)}.yaml")
        return answer
    return render(request, "projects/templates/yaml.html", {"it": it, "yaml": text})


@require_POST
@members_only
def project_try(request: Request, pk: int, check: int) -> HttpResponse:
    """Try a health check on one of the servers that the user may launch the project to, and show the result."""
    it = find(request.user, Project.objects, Action.EDIT, pk=pk)
    it.insist_on_current()
    row = get_object_or_404(HealthCheck.objects.select_related("project"), pk=check, project=it)
    number = request.POST.get("server", "")
    servers = servers_to_launch(request.user, it).select_related("credential", "jump_host")
    server = get_object_or_404(servers, pk=int(number) if number.isdecimal() else 0)
    trial = try_check(row, server)
    record(actor(), Act.TESTED, row, None, {"server": server.name, "problem": trial.problem})
    if request.htmx:
        return render(request, "deployer/_trial.html", {"check": row, "server": server, "trial": trial})
    messages.add_message(request, messages.ERROR if trial.problem else messages.SUCCESS, _told(row, server, trial))
    return redirect(f"{reverse('project', args=[pk])}#health")


def _told(check: HealthCheck, server: Server, trial: Trial) -> str:
    words = {"check": check, "server": server, "seconds": trial.seconds, "problem": trial.problem}
    if not trial.problem:
        return _("%(check)s on %(server)s: healthy, in %(seconds).1f s.") % words
    if trial.asked:
        return _("%(check)s on %(server)s: unhealthy, in %(seconds).1f s: %(problem)s") % words
    return _("%(check)s could not be tried on %(server)s: %(problem)s") % words
