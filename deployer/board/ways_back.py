"""The way back of a project on each of its servers, shown before it is needed: to which release, or why not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from deployer.models import Deployment, Release, Target
from deployer.plan import PlannedStep
from deployer.probing.look import LITTLE_SPACE
from deployer.releases.undoing import left_to_undo
from deployer.releases.versions import recorded
from projects.models import Project
from servers.models import Server
from servers.sentences import clauses


@dataclass(frozen=True)
class WayBack:
    """To the release ``version`` on one server, which the deployment ``number`` has put there, if that is known.

    ``obstacles`` are clauses that say why it is not open.
    """

    server: str
    version: str
    number: int | None
    obstacles: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """Whether nothing is known to be in the way."""
        return not self.obstacles

    @property
    def told(self) -> str:
        """It as a clause."""
        goal = f"#{self.number}" if self.number else self.version
        if not goal:
            return clauses(*self.obstacles)
        if self.is_open:
            return _("can go back to %s: yes") % goal
        return _("can go back to %(goal)s: no, %(why)s") % {"goal": goal, "why": clauses(*self.obstacles)}


def in_short(ways: Mapping[int, WayBack]) -> list[tuple[str, bool, list[str]]]:
    """What is told, whether the way is open, and the names of all servers of which it is true."""
    names: dict[tuple[str, bool], list[str]] = {}
    for way in ways.values():
        names.setdefault((way.told, way.is_open), []).append(way.server)
    return [(*what, servers) for what, servers in names.items()]


def ways_back(project: Project, servers: Sequence[Server]) -> dict[int, WayBack]:
    """From what is live now to what was there before, by the ids of servers; nothing of those with no release."""
    seen = recorded(project, *(server.pk for server in servers)) if servers else {}
    goals = {server: it.previous for server, it in seen.items() if it.live}
    versions = {version for version in goals.values() if version}
    known = {release.version: release for release in Release.objects.filter(project=project, version__in=versions)}
    stays = {version: _not_taken_back(project, known.get(version)) for version in versions}
    return _told(project, servers, goals, stays)


def ways_back_after(
    project: Project, servers: Sequence[Server], running: Mapping[int, str], steps: Iterable[PlannedStep]
) -> dict[int, WayBack]:
    """From a launch that runs these ``steps`` before all, to what is ``running`` now."""
    goals = {server.pk: running.get(server.pk, "") for server in servers}
    own = tuple(_stays_done(step.name) for step in steps if not step.undone_by)
    return _told(project, servers, goals, {version: own for version in goals.values() if version})


def _stays_done(step: str) -> str:
    return _("nothing takes back step “%s”") % step


def _not_taken_back(project: Project, goal: Release | None) -> tuple[str, ...]:
    if goal is None:
        return ()
    left = [done for done in left_to_undo(project, goal) if not done.is_undoable]
    told = _("nothing takes back step “%(step)s” of #%(number)d")
    return tuple(told % {"step": done.run.step, "number": done.run.deployment_id} for done in left)


def _told(
    project: Project, servers: Sequence[Server], goals: Mapping[int, str], stays: Mapping[str, tuple[str, ...]]
) -> dict[int, WayBack]:
    releases = Release.objects.deployable_to(project).filter(version__in={*goals.values()} - {""})
    stored = {release.version: release for release in releases}
    numbers = _numbers(project, goals)
    rows = Deployment.objects.filter(pk__in={*numbers.values()}).only("plan")
    forgotten = {it.pk for it in rows if not it.has_plan}
    found = {}
    for server in servers:
        if server.pk in goals:
            version = goals[server.pk]
            number = numbers.get((server.pk, version))
            obstacles = (*stays.get(version, ()), *_in_the_way(server, version, stored.get(version)))
            if number in forgotten:
                obstacles = (*obstacles, _("the configuration of #%d is not kept") % number)
            found[server.pk] = WayBack(server.name, version, number, obstacles)
    return found


def _in_the_way(server: Server, version: str, release: Release | None) -> tuple[str, ...]:
    if not version:
        return (_("there is no release to go back to"),)
    if release is None:
        return (_("release %s is no longer stored") % version,)
    free = server.facts.get("free")
    if isinstance(free, int) and 0 <= free < max(LITTLE_SPACE, release.unpacked_size):
        return (_("the disk is nearly full: %d MB are free") % (free >> 20),)
    return ()


def _numbers(project: Project, goals: Mapping[int, str]) -> dict[tuple[int, str], int]:
    """The newest deployment that has put each version on each server, by both."""
    rows = Target.objects.filter(deployment__project=project, server__in=goals, status=Target.Status.SUCCESS)
    rows = rows.filter(release_after__in={*goals.values()} - {""}, deployment__deployment_type="full")
    columns = rows.order_by("pk").values_list("server", "release_after", "deployment")
    return {(server, version): number for server, version, number in columns if server is not None}
