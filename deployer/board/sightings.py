"""What the servers run now: asked, kept, and compared with what deployer put there."""

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from django.conf import settings
from django.db import connections
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.models import Deployment, Sighting, Standing, Target
from deployer.plan import Plan
from deployer.probing.identity import Question
from deployer.probing.look import look
from projects.commands import proof, release
from projects.models import Project
from servers.errors import ShellError
from servers.models import Server
from servers.sentences import because
from servers.ssh.shell import connect

#: Servers that were seen longer ago than this are looked at again automatically.
LOOK_EVERY = timedelta(minutes=50)


@dataclass(frozen=True)
class Change:
    """What the ``deployment`` of that number did on a server, and how it ended there, if it has."""

    deployment: int
    status: str
    error: str

    @property
    def trouble(self) -> str:
        """A sentence where it did not end well."""
        if self.status not in Target.FAILURES | {Target.Status.CANCELLED}:
            return ""
        words = {"number": self.deployment, "status": Target.Status(self.status).label}
        return because(_("deployment #%(number)d: %(status)s") % words, self.error)


@dataclass(frozen=True)
class View:
    """The last look at a project on one server, beside the release that deployer ``left`` there.

    ``drift`` are sentences: what differs. Empty where all is as it was left, or nothing was ever seen. ``is_outdated``:
    a deployment has changed the server since it was seen, so nothing is said of it. ``last`` is the last one that did.
    """

    server: Server
    sighting: Sighting | None
    left: str
    drift: list[str]
    is_outdated: bool = False
    last: Change | None = None

    @classmethod
    def of(cls, standing: Standing) -> Self:
        """What is kept, as it is told."""
        last = standing.last
        change = Change(last.deployment_id, last.status, last.error) if last is not None else None
        outdated = standing.is_outdated
        return cls(standing.server, standing.sighting, standing.release, standing.drift, outdated, change)

    @property
    def trouble(self) -> str:
        """A sentence where the last deployment that changed the server did not end well there."""
        return self.last.trouble if self.last else ""


def board(project: Project) -> list[View]:
    """Every active server that the project was ever deployed to, by name."""
    return boards([project]).get(project.pk, [])


def boards(projects: Sequence[Project]) -> dict[int, list[View]]:
    """The same of several projects, by their ids; with as many questions to the database as for one."""
    rows = Standing.objects.filter(project__in=projects, server__is_active=True).order_by("server__name")
    found: dict[int, list[View]] = {}
    for standing in rows.whole():
        found.setdefault(standing.project_id, []).append(View.of(standing))
    return found


def refresh(project: Project, servers: Iterable[Server] | None = None) -> None:
    """Ask the servers, side by side, and keep what they say. Nothing is changed on them.

    Nothing is asked while a deployment is running: the state then is neither the old nor the new one.
    """
    if Deployment.objects.active().filter(project=project).exists():
        return
    plan = Plan.of(project, [])
    wanted = [*(_servers_of(project) if servers is None else servers)]
    if not wanted:
        return

    def ask_one(server: Server) -> None:
        try:
            _look_at(project, plan, server)
        finally:
            connections.close_all()  # this thread's own

    with ThreadPoolExecutor(min(len(wanted), settings.DEPLOYER_PARALLEL_SERVERS), "look") as threads:
        for done in [threads.submit(ask_one, server) for server in wanted]:
            done.result()


def refresh_old() -> None:
    """Look at all servers of all projects that have not been looked at for `LOOK_EVERY`."""
    for project in Project.objects.filter(deployments__isnull=False).distinct():
        fresh = project.sightings.filter(seen_at__gt=timezone.now() - LOOK_EVERY)
        seen = set(fresh.values_list("server_id", flat=True))
        refresh(project, [server for server in _servers_of(project) if server.pk not in seen])


def _servers_of(project: Project) -> Collection[Server]:
    there = Standing.objects.filter(project=project).values("server")
    return Server.objects.filter(pk__in=there, is_active=True).select_related("credential", "jump_host")


def _look_at(project: Project, plan: Plan, server: Server) -> None:
    try:
        with connect(server) as link:
            question = Question.of(plan)
            facts, answer = look(link, plan, Deployment.Type.RESTART_ONLY, question)
            live = release.release_name(facts.live)
            processes = question.read(answer, live).chosen.after
    except ShellError as error:
        Sighting.record(project, server, problem=str(error))
        server.record_connection(str(error))
        return
    seen = {"release": live, "is_lost": facts.is_lost, "processes": proof.to_json(processes), "problem": ""}
    Sighting.record(project, server, **seen)
    server.record_connection(facts=facts.learned())
