"""What runs where, for every project: a page of rows, each with the numbers of its servers and no more than a few."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import (
    Case,
    CharField,
    Count,
    Exists,
    F,
    Max,
    OuterRef,
    QuerySet,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.functions import RowNumber
from django.utils import timezone
from django.utils.crypto import salted_hmac

from deployer.board.sightings import View, standings_of
from deployer.models import Deployment, Release, Standing
from people.rights import Person
from projects.commands.proof import Identity
from projects.models import Project

#: Servers of a project that its row names: those that need attention come first.
NAMED = 3
#: Servers that a folded part names once it is opened.
UNFOLDED = 100

_SEEN = """\
SELECT
    (SELECT count(*) FROM deployer_deployment WHERE finished_at IS NULL),
    (SELECT coalesce(sum(revision), 0) FROM deployer_deployment WHERE finished_at IS NULL),
    (SELECT coalesce(sum(t.revision), 0) FROM deployer_target t JOIN deployer_deployment d ON d.id = t.deployment_id
        WHERE d.finished_at IS NULL),
    (SELECT max(id) FROM deployer_deployment),
    (SELECT max(renewed_at) FROM deployer_standing),
    (SELECT max(updated_at) FROM projects_project),
    (SELECT count(*) FROM projects_project),
    (SELECT max(updated_at) FROM servers_server),
    (SELECT count(*) FROM servers_server),
    (SELECT coalesce(sum(id), 0) FROM servers_server WHERE is_active AND connection_status = 'offline'),
    (SELECT coalesce(sum(id), 0) FROM deployer_target WHERE NOT (kept_out = ''))
"""


def seen() -> str:
    """Changes whenever the overview does, and each minute, for the times that are told on it. One small query.

    It is the same for everybody, whatever they see of it, and nobody can tell from it how much there is.
    """
    with connection.cursor() as cursor:
        cursor.execute(_SEEN)
        row = cursor.fetchone()
    moments = [*map(str, row), str(int(timezone.now().timestamp()) // 60)]
    return salted_hmac("deployer.overview", " ".join(moments), algorithm="sha256").hexdigest()[:32]


@dataclass
class Running:
    """One project on the board: what was ``left`` there last, what is ``active`` now, and what its servers run.

    ``operable``: who looks may launch it. ``count`` are its servers, ``bad`` of them differ, could not be seen or did
    not end well, ``unseen`` were not looked at since they were changed. ``releases`` are the versions that were seen
    live, what deployer knows of each, and the numbers of servers. ``views`` are some servers, those that need attention
    first; ``youngest`` is the process that was started last.
    """

    project: Project
    left: Deployment | None = None
    active: Deployment | None = None
    failed: Deployment | None = None
    operable: bool = False
    count: int = 0
    bad: int = 0
    wrong: int = 0
    unseen: int = 0
    youngest: Identity | None = None
    releases: list[tuple[str, Release | None, int]] = field(default_factory=list)
    views: list[View] = field(default_factory=list)

    @property
    def remarks(self) -> list[tuple[str, str, datetime | None]]:
        """The differences from what deployer left, or failed looks with their time, of the servers that are named."""
        found: list[tuple[str, str, datetime | None]] = []
        for view in self.views:
            found += [(view.server.name, remark, None) for remark in view.drift]
            if view.failure and view.sighting:
                found.append((view.server.name, view.failure, view.sighting.failed_at))
        return found

    @property
    def unnamed(self) -> int:
        """How many more servers have something to be remarked."""
        named = {server for server, *_remark in self.remarks}
        return max(self.wrong - len(named), 0)


def deployed(user: Person) -> QuerySet[Project]:
    """The projects that ``user`` sees and that were ever deployed, by name."""
    deployments = Deployment.objects.reached_by(user).filter(project=OuterRef("pk"))
    return Project.objects.current().reached_by(user).filter(Exists(deployments))


def _wrong(user: Person) -> Any:
    shown = Project.objects.current().reached_by(user).order_by().values("pk")
    rows = Standing.objects.filter(server__is_active=True, project__in=shown)
    return rows.with_state().filter(is_wrong=1).order_by()


def differing(user: Person) -> QuerySet[Project]:
    """Those that ``user`` sees and that are not as deployer left them, or could not be looked at."""
    return Project.objects.filter(pk__in=_wrong(user).values("project"))


def first_differing(user: Person, most: int) -> list[tuple[Project, bool]]:
    """At most so many of those, each with whether a difference was seen; those where one was come first."""
    rows = _wrong(user).values_list("project", "project__name", "project__environment").annotate(Max("is_different"))
    first = rows.order_by("-is_different__max", "project__name")[:most]
    return [(Project(pk=pk, name=name, environment=place), bool(seen)) for pk, name, place, seen in first]


def rows_of(user: Person, projects: Iterable[Project], named: int = NAMED) -> list[Running]:
    """The rows of these projects; however many servers they have, as many questions to the database.

    Each names so many of its servers, and of its deployments those that ``user`` sees.
    """
    found = {project.pk: Running(project) for project in projects}
    _add_deployments(user, found)
    _add_numbers(found)
    _add_views(found, named)
    return list(found.values())


def _add_deployments(user: Person, found: dict[int, Running]) -> None:
    """What was launched last, what went well last, and what has not ended."""
    of = Deployment.objects.reached_by(user).filter(project=OuterRef("pk")).order_by("-id").values("pk")
    ids = {
        "left": Subquery(of.filter(status=Deployment.Status.SUCCESS, finished_at__isnull=False)[:1]),
        "ended": Subquery(of.filter(finished_at__isnull=False).exclude(status=Deployment.Status.EXPIRED)[:1]),
        "active": Subquery(of.filter(finished_at=None).exclude(status__in=Deployment.IN_LINE)[:1]),
    }
    named = list(Project.objects.filter(pk__in=found).order_by().annotate(**ids).values_list("pk", *ids))
    rows = Deployment.objects.listed().in_bulk({pk for _project, *three in named for pk in three if pk})
    for project, left, ended, active in named:
        row = found[project]
        row.left, row.active = rows.get(left), rows.get(active)
        row.failed = rows.get(ended) if ended != left else None


def _add_numbers(found: dict[int, Running]) -> None:
    """The numbers of servers, and of those with each version."""
    live = Case(When(is_unseen=0, then=F("sighting__release")), default=Value(""), output_field=CharField())
    since = Case(When(is_unseen=0, then=F("since")), default=Value(""), output_field=CharField())
    numbers = (
        Standing.objects.filter(project__in=found, server__is_active=True)
        .with_state()
        .order_by()
        .annotate(live=live, started=since)
        .values("project", "live")
        .annotate(
            number=Count("pk"), bad=Sum("is_bad"), wrong=Sum("is_wrong"), unseen=Sum("is_unseen"), latest=Max("started")
        )
        .order_by("project", "live")
    )
    groups = list(numbers.values_list("project", "live", "number", "bad", "wrong", "unseen", "latest"))
    versions = {version for _project, version, *_numbers in groups if version}
    known = Release.objects.only("version", "commit_hash", "commit_message", "archive", "bad_at").by_version(versions)
    for project, version, number, bad, wrong, unseen, latest in groups:
        row = found[project]
        row.count += number
        row.bad += bad
        row.wrong += wrong
        row.unseen += unseen
        if version:
            row.releases.append((version, known.get(version), number))
        if latest and (row.youngest is None or latest > row.youngest.since):
            row.youngest = Identity(0, since=latest)


def _add_views(found: dict[int, Running], named: int) -> None:
    """Some servers of each, those that need attention first."""
    place = Window(RowNumber(), partition_by="project", order_by=[F("is_bad").desc(), F("server__name").asc()])
    some = Standing.objects.filter(project__in=found, server__is_active=True).with_state().annotate(place=place)
    for standing in some.filter(place__lte=named).whole().order_by("place"):
        found[standing.project_id].views.append(View.of(standing))
    for row in found.values():
        row.views.sort(key=lambda view: view.server.name)


def places_of(project: Project) -> tuple[list[View], int]:
    """The servers of a project, those that need attention first, and how many there are; `UNFOLDED` at most."""
    rows = standings_of(project)
    return [View.of(standing) for standing in rows[:UNFOLDED]], rows.count()
