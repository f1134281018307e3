"""What the servers run now: asked, kept, and compared with what deployer put there."""

import logging
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import connections
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.models import Deployment, Sighting, Target
from deployer.plan import Plan
from deployer.probing.identity import Question
from deployer.probing.look import look
from deployer.releases.versions import changed_in, left_in, newest_of, touched_by
from projects.commands import proof, release
from projects.commands.proof import Identity, Proof, Service
from projects.models import Project
from servers.errors import ShellError, explained
from servers.fields import DecryptionError
from servers.models import Server
from servers.sentences import because
from servers.ssh.shell import connect

logger = logging.getLogger(__name__)

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

    @property
    def trouble(self) -> str:
        """A sentence where the last deployment that changed the server did not end well there."""
        return self.last.trouble if self.last else ""


def board(project: Project) -> list[View]:
    """Every active server that the project was ever deployed to, by name."""
    return boards([project]).get(project.pk, [])


def boards(projects: Sequence[Project]) -> dict[int, list[View]]:
    """The same of several projects, by their ids; with as many questions to the database as for one."""
    touched = touched_by(projects)
    places = changed_in(projects)
    last = _newest_changes(touched)
    servers = Server.objects.filter(pk__in=touched.values("server"), is_active=True).order_by("name")
    seen = {
        (sighting.project_id, sighting.server_id): sighting
        for sighting in Sighting.objects.filter(project__in=projects)
    }
    known, proofs = left_in(projects), _newest_proofs(projects)
    found: dict[int, list[View]] = {}
    for server in servers:
        for project in projects:
            key = (project.pk, server.pk)
            if key not in places:
                continue
            left = known.get(project.pk, {}).get(server.pk, "")
            sighting = seen.get(key)
            changed = places[key]
            outdated = sighting is not None and changed is not None and sighting.seen_at < changed
            drift = _drift(sighting, left, proofs.get(key, ())) if sighting and not outdated else []
            found.setdefault(project.pk, []).append(View(server, sighting, left, drift, outdated, last.get(key)))
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
        try:
            refresh(project, [server for server in _servers_of(project) if server.pk not in seen])
        except DecryptionError as error:
            logger.warning("the servers of “%s” were not looked at: %s", project, error)


def _servers_of(project: Project) -> Collection[Server]:
    touched = touched_by([project]).values("server")
    return Server.objects.filter(pk__in=touched, is_active=True).select_related("credential", "jump_host")


def _look_at(project: Project, plan: Plan, server: Server) -> None:
    try:
        with explained(server), connect(server) as link:
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


def _newest_proofs(projects: Iterable[Project]) -> dict[tuple[int, int], tuple[Identity, ...]]:
    """Who the service was when a deployment last verified it, by the ids of project and server.

    Nobody where a restart or a rollback was begun since then and did not come to that: whoever runs is its doing.
    """
    restarted = Target.objects.filter(deployment__project__in=projects, server__isnull=False, proof__has_key="before")
    rows = newest_of(restarted, "proof")
    proofs = {(project, server): Proof.from_json(data) for project, server, data in rows}
    return {place: () if last.undone is not None else last.after or () for place, last in proofs.items()}


def _newest_changes(touched: QuerySet[Target]) -> dict[tuple[int, int], Change]:
    """What the last deployment that changed a server did there, by the ids of project and server."""
    begun = touched.filter(begun_at__isnull=False).exclude(status=Target.Status.SKIPPED)
    rows = newest_of(begun, "deployment", "status", "error")
    return {(project, server): Change(*row) for project, server, *row in rows}


def _drift(sighting: Sighting, left: str, proved: Service) -> list[str]:
    found = []
    if left and sighting.release != left:
        found.append(
            _("release %(seen)s is live, but deployer left %(left)s") % {"seen": sighting.release, "left": left}
            if sighting.release
            else _("no release is live, but deployer left %s") % left
        )
    if sighting.is_lost:
        found.append(_("current leads to %s, which is not there any more") % (sighting.release or "–"))
    processes = sighting.service
    if proved and not processes:
        found.append(_("the process is not running"))
    elif proved and not proof.same_service(proved, processes):
        newest = max(processes, key=lambda process: process.since)
        found.append(_("the process was restarted by somebody else: %s") % newest)
    for process in processes:
        if process.old:
            found.append(
                _("pid %(pid)s runs old code, from release %(old)s") % {"pid": process.pid, "old": process.old}
            )
    return found
