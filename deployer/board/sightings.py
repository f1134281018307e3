"""What the servers run now: asked, kept, and compared with what deployer put there."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.models import ConfigState, Deployment, Sighting, Standing, Target
from deployer.plan import Plan
from deployer.probing.config_files import drift, place_of
from deployer.probing.identity import Inquiry
from deployer.probing.look import look
from deployer.side_by_side import side_by_side
from projects.commands import proof, release
from projects.models import Project
from servers.errors import NoLinkError, ShellError, explained
from servers.fields import DecryptionError
from servers.models import Server, ServerGroup
from servers.sentences import because
from servers.ssh.shell import SSHShell, connect

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
class Stop:
    """When the ``deployment`` of that number has stopped the application on a server, and who launched it."""

    deployment: int
    at: datetime | None
    who: str


@dataclass(frozen=True)
class View:
    """What was last seen of a project on one server, beside the release that deployer ``left`` there.

    ``drift`` are sentences: what differs. Empty where all is as it was left, or nothing was ever seen. ``is_outdated``:
    a deployment has changed the server since it was seen, so nothing is said of it. ``last`` is the last one that did.
    ``failure`` says why the last look failed; what was seen is older than that. ``is_away``: it was left there, and the
    server is in none of the project's groups any more. ``is_new``: it is in one, and nothing was deployed there yet.
    ``stopped``: it was stopped there on purpose, and nothing was launched since.
    """

    server: Server
    sighting: Sighting | None
    left: str
    drift: list[str]
    is_outdated: bool = False
    last: Change | None = None
    failure: str = ""
    is_away: bool = False
    is_new: bool = False
    stopped: Stop | None = None

    @classmethod
    def of(cls, standing: Standing) -> Self:
        """What is kept, as it is told."""
        last = standing.last
        change = Change(last.deployment_id, last.status, last.error) if last is not None else None
        return cls(
            standing.server,
            standing.sighting,
            standing.release,
            standing.drift,
            is_outdated=standing.is_outdated,
            last=change,
            failure=standing.failure,
            is_away=standing.is_away,
            stopped=_stop_of(last),
        )

    @classmethod
    def new(cls, server: Server) -> Self:
        """A server to which nothing was deployed yet."""
        return cls(server, None, "", [], is_new=True)

    @property
    def is_seen(self) -> bool:
        """Whether the server was seen since it was last changed."""
        return self.sighting is not None and self.sighting.seen_at is not None and not self.is_outdated

    @property
    def is_bad(self) -> bool:
        """Whether it needs attention: it differs, the last look failed, or the last deployment did not end well."""
        return bool(self.drift or self.failure or (self.trouble and (self.is_seen or self.sighting is None)))

    @property
    def trouble(self) -> str:
        """A sentence where the last deployment that changed the server did not end well there."""
        return self.last.trouble if self.last else ""


def _stop_of(last: Target | None) -> Stop | None:
    if last is None or not last.has_stopped:
        return None
    return Stop(last.deployment_id, last.finished_at, last.deployment.launched_by)


def board(project: Project) -> list[View]:
    """Every active server that the project was ever deployed to, by name."""
    return boards([project]).get(project.pk, [])


def standings_of(project: Project) -> Any:
    """The same as they are kept, those that need attention first."""
    rows: Any = Standing.objects.filter(project=project, server__is_active=True).with_state().whole()
    return rows.order_by("-is_bad", "server__name")


def boards(projects: Sequence[Project]) -> dict[int, list[View]]:
    """The same of several projects, by their ids; with as many questions to the database as for one."""
    rows = Standing.objects.filter(project__in=projects, server__is_active=True).order_by("server__name")
    found: dict[int, list[View]] = {}
    for standing in rows.whole():
        found.setdefault(standing.project_id, []).append(View.of(standing))
    return found


class Board:
    """The active servers that a project has something to do with, to be shown a page at a time.

    First those that it was ever deployed to, those of them first that need attention; then those of its groups to which
    nothing was deployed yet.
    """

    def __init__(self, project: Project) -> None:
        self.left = standings_of(project)
        self.deployed, self.new = _deployed_and_new(project)

    def count(self) -> int:
        """How many there are."""
        return self.deployed + len(self.new)

    def __getitem__(self, wanted: slice) -> list[View]:
        begin, end, _step = wanted.indices(self.count())
        left = [View.of(standing) for standing in self.left[begin:end]] if begin < self.deployed else []
        new = self.new[max(begin - self.deployed, 0) : max(end - self.deployed, 0)]
        return [*left, *map(View.new, new)]


def not_deployed_yet(project: Project) -> list[View]:
    """The active servers of its groups to which nothing was deployed yet, by name."""
    return [View.new(server) for server in _deployed_and_new(project)[1]]


def _deployed_and_new(project: Project) -> tuple[int, list[Server]]:
    """The number of active servers that it was ever deployed to, and those of its groups that it was not."""
    left = Standing.objects.filter(project=project)
    members = ServerGroup.servers.through.objects.filter(servergroup__projects=project)
    theirs = Q(pk__in=left.values("server")) | Q(pk__in=members.values("server"))
    known = Exists(left.filter(server=OuterRef("pk")))
    rows = Server.objects.filter(theirs, is_active=True).annotate(is_known=known).order_by("name")
    found = list(rows.values_list("pk", "name", "is_known"))
    new = [Server(pk=pk, name=name, is_active=True) for pk, name, is_known in found if not is_known]
    return len(found) - len(new), new


def refresh(project: Project, servers: Iterable[Server] | None = None) -> None:
    """Ask the servers, side by side, and keep what they say. Nothing is changed on them.

    Nothing is asked while a deployment is running: the state then is neither the old nor the new one; nor of a project
    that is archived.
    """
    if project.is_archived or Deployment.objects.at_work().filter(project=project).exists():
        return
    plan = Plan.of(project, [])
    wanted = [*(_servers_of(project) if servers is None else servers)]
    _look_side_by_side({server: {project: plan} for server in wanted})


def refresh_on(server: Server, projects: Iterable[Project]) -> None:
    """Ask one server, over one link, for each of ``projects``; those that are archived or at work are left out."""
    plans = {project: plan for project in projects if not project.is_archived and (plan := _plan_of(project))}
    _look_at(server, plans)


def refresh_old() -> None:
    """Look at every server where some project has not been looked at for `LOOK_EVERY`: once for all of those.

    Those of archived projects are not looked at any more.
    """
    lately = timezone.now() - LOOK_EVERY
    fresh = Q(sighting__seen_at__gt=lately) | Q(sighting__failed_at__gt=lately)
    old = Standing.objects.filter(~fresh | Q(sighting=None), server__is_active=True, project__archived_at=None)
    pairs = list(old.order_by("server", "project").values_list("server", "project"))
    servers = _reachable().in_bulk({server for server, _project in pairs})
    projects = Project.objects.in_bulk({project for _server, project in pairs})
    plans = {pk: plan for pk, project in projects.items() if (plan := _plan_of(project))}
    wanted: dict[Server, dict[Project, Plan]] = {}
    for server, project in pairs:
        if server in servers and project in plans:
            wanted.setdefault(servers[server], {})[projects[project]] = plans[project]
    _look_side_by_side(wanted)


def _plan_of(project: Project) -> Plan | None:
    """What to look for; nothing, with a line in the worker's log, where a secret of the project cannot be read."""
    try:
        return Plan.of(project, [])
    except DecryptionError as error:
        logger.warning("the servers of “%s” were not looked at: %s", project, error)
        return None


def _look_side_by_side(wanted: Mapping[Server, Mapping[Project, Plan]]) -> None:
    """Ask each server, over one link, for all of its projects that are wanted."""
    side_by_side(wanted.items(), lambda item: _look_at(*item))


def _servers_of(project: Project) -> Collection[Server]:
    return _reachable().filter(pk__in=Standing.objects.filter(project=project).values("server"))


def _reachable() -> QuerySet[Server]:
    return Server.objects.filter(is_active=True).select_related("credential", "jump_host")


def _look_at(server: Server, plans: Mapping[Project, Plan]) -> None:
    """Look at a server for each of the projects that no deployment works on by now."""
    busy = set(Deployment.objects.at_work().filter(project__in=plans).values_list("project", flat=True))
    wanted = {project: plan for project, plan in plans.items() if project.pk not in busy}
    if not wanted:
        return
    try:
        with explained(server), connect(server) as link:
            while wanted:
                project = next(iter(wanted))
                _look_for(project, wanted[project], server, link)
                del wanted[project]
    except ShellError as error:
        for project in wanted:  # those that it was not asked for either: it would not answer them
            Sighting.record_failure(project, server, str(error))
        server.record_connection(str(error))


def _look_for(project: Project, plan: Plan, server: Server, link: SSHShell) -> None:
    """Look for one project, and keep what is seen or why nothing was. Raises `NoLinkError`."""
    inquiry = Inquiry.of(plan)
    try:
        with explained(server):
            known = ConfigState.of(project.pk, server.pk)
            files = list(dict.fromkeys((row.path, bool(row.release)) for row in known.values() if row.digest))
            asked = [place_of(plan, path, is_in_release=inside) for path, inside in files]
            facts, answer = look(link, plan, Deployment.Type.RESTART_ONLY, inquiry, asked)
            live = release.release_name(facts.live)
            processes = [it for found in inquiry.read(answer, live) for it in found.chosen.after]
            states = {
                (live if inside else "", path): state for (path, inside), state in zip(files, facts.files, strict=True)
            }
    except NoLinkError:
        raise
    except ShellError as error:
        Sighting.record_failure(project, server, str(error))
        server.record_connection(str(error))
        return
    seen = proof.to_json(processes)
    changed = drift(states, known)
    Sighting.record(project, server, release=live, is_lost=facts.is_lost, processes=seen, files=changed)
    server.record_connection(facts=facts.learned())
