"""The versions that servers have, live and before, and the one to go back to: as deployments found and left them, and
as they were seen since."""

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any, NamedTuple

from django.db.models import Max, QuerySet

from deployer.models import Standing, Target
from projects.models import Project


class Recorded(NamedTuple):
    """The versions of a server when a deployment last changed it: the one ``live`` then and the one ``before``.

    ``previous`` is the one to go back to: ``before``, unless that one had failed there; then the one that the server
    had before it, and so on. ``failed`` are those that have failed there and never gone well.
    """

    live: str
    before: str = ""
    previous: str = ""
    failed: frozenset[str] = frozenset()

    @property
    def needed(self) -> set[str]:
        """The versions that must not be deleted."""
        return {self.live, self.before, self.previous} - {""}


class _Move(NamedTuple):
    """The release that deployments found on a server and the one that they left, and how they ended."""

    before: str
    after: str
    status: str


def recorded(project: Project, *servers: int) -> dict[int, Recorded]:
    """What each server (by its id; only ``servers`` if any are named) was last seen with, as it said itself."""
    moved = _moved([project])
    return _by("server", moved.filter(server__in=servers) if servers else moved)


def recorded_on(server: int, projects: Iterable[Project]) -> dict[int, Recorded]:
    """The same of one server with each of ``projects``, by their ids."""
    return _by("deployment__project", _moved(projects).filter(server=server))


def _by(key: str, moved: QuerySet[Target]) -> dict[int, Recorded]:
    # A server has had thousands of deployments, and few moves that differ: the database puts equal ones together.
    columns = (key, "release_before", "release_after", "status")
    rows = moved.order_by().values(*columns).annotate(newest=Max("id")).order_by("-newest")
    moves: dict[int, list[_Move]] = {}
    for it, *move in rows.values_list(*columns):
        moves.setdefault(it, []).append(_Move(*move))
    return {it: _recorded(history) for it, history in moves.items()}


def _recorded(moves: list[_Move]) -> Recorded:
    """``moves`` of one server, the newest first; equal ones stand where the newest of them is."""
    live = moves[0].after
    good = {move.after for move in moves if move.status == Target.Status.SUCCESS}
    failed = frozenset(move.after for move in moves if move.status in Target.FAILURES) - good
    switches = [move.before for move in moves if move.before != move.after]  # a restart changes nothing
    befores = [version for version in takewhile(bool, switches) if version != live]
    previous = next((version for version in befores if version not in failed), befores[0] if befores else "")
    return Recorded(live, switches[0] if switches else "", previous, failed)


def running_in(projects: Iterable[Project]) -> dict[int, dict[int, str]]:
    """The version that each server runs as far as is known, by the ids of projects and servers.

    A look at it counts more than what a deployment left there, unless a deployment has changed it since.
    """
    found: dict[int, dict[int, str]] = {}
    rows = Standing.objects.filter(project__in=projects).with_state()
    columns = ("project", "server", "release", "is_unseen", "sighting__release")
    for project, server, left, is_unseen, seen in rows.values_list(*columns):
        if left or not is_unseen:
            found.setdefault(project, {})[server] = left if is_unseen else seen
    return found


def _moved(projects: Iterable[Project]) -> QuerySet[Target]:
    return Target.objects.filter(deployment__project__in=projects, server__isnull=False).exclude(release_after="")


def newest_of(targets: QuerySet[Target], *columns: str) -> Iterator[tuple[Any, ...]]:
    """Of the newest of ``targets`` of each project on each server: the ids of both, and ``columns``."""
    newest = targets.order_by().values("deployment__project", "server").annotate(newest=Max("id")).values("newest")
    rows = Target.objects.filter(pk__in=newest).values_list("deployment__project", "server", *columns)
    return rows.iterator()
