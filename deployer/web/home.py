"""The first page: running deployments, problems, recent deployments."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from deployer.board.sightings import View, boards
from deployer.models import Deployment, Release
from deployer.playground import keeping
from deployer.web.first_steps import first_steps, next_step
from deployer.web.request import fragment
from people.access import Request, members_only
from people.models import User
from projects.commands.proof import Identity
from projects.models import Project
from servers.models import Server

_BROKEN = (Deployment.Status.FAILED, Deployment.Status.INTERRUPTED)
#: Projects whose last deployment has failed, of which the first page shows the newest.
BROKEN_SHOWN = 5


@require_safe
@members_only
def home(request: Request) -> HttpResponse:
    """Running deployments, problems, recent deployments."""
    return render(request, "deployer/home.html", _activity(request.user) | _board())


@fragment
def activity(request: Request) -> HttpResponse:
    """The part of the home page that updates automatically."""
    return render(request, "deployer/_activity.html", _activity(request.user) | {"oob": True})


@fragment
def overview(request: Request) -> HttpResponse:
    """What runs where, for every project that was ever deployed."""
    return render(request, "deployer/_overview.html", _board())


@dataclass(frozen=True)
class Running:
    """One project on the board: what was ``left`` there last, what is ``active`` now, and what each server runs.

    ``known`` are the releases that deployer made, by their versions.
    """

    project: Project
    left: Deployment | None
    active: Deployment | None
    failed: Deployment | None
    views: list[View]
    known: Mapping[str, Release]

    @property
    def remarks(self) -> list[tuple[Server, str]]:
        """The differences from what deployer left, or failed looks, with their servers."""
        return [
            (view.server, remark)
            for view in self.views
            for remark in [*view.drift, view.sighting.problem if view.sighting and not view.is_outdated else ""]
            if remark
        ]

    @property
    def releases(self) -> list[tuple[str, Release | None, list[str]]]:
        """The versions that were last seen live, what deployer knows of each, and the names of their servers."""
        found: dict[str, list[str]] = {}
        for view in self.views:
            if view.sighting and view.sighting.release and not view.is_outdated:
                found.setdefault(view.sighting.release, []).append(view.server.name)
        return [(version, self.known.get(version), servers) for version, servers in sorted(found.items())]

    @property
    def youngest(self) -> Identity | None:
        """The process that was started last; None where none was seen."""
        seen = [view.sighting for view in self.views if view.sighting and not view.is_outdated]
        processes = [process for sighting in seen for process in sighting.service]
        return max(processes, key=lambda process: process.since, default=None)

    @property
    def bad(self) -> int:
        """The number of servers that differ, could not be seen, or where the last deployment did not end well."""
        troubled = {view.server.pk for view in self.views if view.trouble and not view.is_outdated}
        return len(troubled | {server.pk for server, _remark in self.remarks})

    @property
    def unseen(self) -> bool:
        """Whether some server was not looked at since it was last changed."""
        return any(view.sighting is None or view.is_outdated for view in self.views)


def _board() -> dict[str, Any]:
    overview = _overview()
    return {
        "overview": overview,
        "differing": [row for row in overview if row.remarks],
        "is_busy": any(row.active for row in overview),
    }


def _overview() -> list[Running]:
    projects = list(Project.objects.filter(deployments__isnull=False).distinct())
    views = boards(projects)
    known = _known(chain.from_iterable(views.values()))
    active = {it.project_id: it for it in Deployment.objects.listed().active()}
    good = Deployment.objects.filter(status=Deployment.Status.SUCCESS)
    left = {it.project_id: it for it in good.newest().listed().ended()}
    newest = {it.project_id: it for it in Deployment.objects.ended().newest().listed()}
    return [
        Running(
            project,
            left.get(project.pk),
            active.get(project.pk),
            newest[project.pk] if project.pk in newest and newest[project.pk] != left.get(project.pk) else None,
            views.get(project.pk, []),
            known,
        )
        for project in projects
    ]


def _known(views: Iterable[View]) -> dict[str, Release]:
    """The releases that were last seen live, by their versions."""
    seen = {view.sighting.release for view in views if view.sighting}
    return Release.objects.only("version", "commit_hash", "commit_message").by_version(seen - {""})


def _activity(user: User) -> dict[str, Any]:
    running = list(Deployment.objects.listed().active())
    recent = list(Deployment.objects.listed().ended()[:12])
    broken = Deployment.objects.newest().listed().ended().filter(status__in=_BROKEN)
    found = list(broken.order_by("-finished_at"))
    return {
        "running": running,
        "broken": found[:BROKEN_SHOWN],
        "more_broken": max(len(found) - BROKEN_SHOWN, 0),
        "offline": Server.objects.filter(is_active=True, connection_status=Server.ConnectionStatus.OFFLINE),
        "recent": recent,
        "playground_is_up": user.is_superuser and keeping.is_wanted(),
        **({} if running or recent else _way(user)),
    }


def _way(user: User) -> dict[str, Any]:
    """The steps to the first deployment, each with its address for whom it is open; ``project`` is what to launch."""
    steps = first_steps()
    next_one = next_step(steps)
    return {
        "first_steps": [
            (step, reverse(step.page) if user.has_perm(step.permission) else "", step is next_one) for step in steps
        ],
        "project": Project.objects.order_by("-pk").first() if next_one is None else None,
        "playground_can_be_made": user.is_superuser and keeping.can_be_made(),
    }
