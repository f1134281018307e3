"""What servers were seen to be: restarted by somebody, changed by hand, booted anew, out of reach."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from deployer.board.since.events import MOST, Event, Found, Good, Kind, Window, found
from deployer.models import Sighting, Standing, Target
from deployer.models.standing import differing_files
from pages.times import local_time
from people.rights import Person
from projects.commands.processes import MOMENT
from projects.models import Project
from servers.models import Server

#: Ticks of a kernel's clock in a second, and how much the clock of a server may be wrong.
_TICKS, _SLACK = 100, timedelta(minutes=5)


def drift_in(user: Person, standings: Any, projects: Mapping[int, Project], window: Window, *, is_one: bool) -> Found:
    """What differs now from what deployments left; ``is_one``: all of these are on one server, and projects are named.

    A sighting is kept until the next one: only the last is known.
    """
    rows = standings.filter(server__is_active=True).with_state().whole().filter(is_wrong=1)
    known = [*rows.order_by("-sighting__seen_at", "-pk")[: MOST + 1]]
    servers = {row.server_id for row in known}
    seen = frozenset(Server.objects.reached_by(user).filter(pk__in=servers).order_by().values_list("pk", flat=True))
    told: list[tuple[datetime, Event | None]] = []
    for row in known[:MOST]:
        is_seen = row.project_id in projects and row.server_id in seen
        for event in _of_standing(row, str(projects.get(row.project_id, "")) if is_one else "", is_one=is_one):
            if window.holds(event.at):
                told.append((event.at, event if is_seen else None))
    if len(known) > MOST and told:
        oldest = min(at for at, _event in told)
        told.append((oldest, Event(Kind.DRIFT, oldest, _("More servers differ: the board of the project has them."))))
    return found(told)


def _of_standing(row: Any, project: str, *, is_one: bool) -> Iterator[Event]:
    seen: Sighting | None = row.sighting
    if seen is None:
        return
    told = {"of": "project", "number": row.project_id, "server": "" if is_one else row.server.name}
    name = f"{project}: " if project else ""
    if seen.seen_at is not None and not row.is_outdated:
        files = differing_files(seen.files)
        if service := [sentence for sentence in row.drift if sentence not in files]:
            yield Event(Kind.DRIFT, seen.seen_at, name + "; ".join(service), **told)
        for sentence, file in zip(files, seen.files, strict=True):
            own = told | {"of": f"file {file['path']}"}
            yield Event(Kind.BY_HAND, seen.seen_at, name + sentence, **own)
    if row.failure and seen.failed_at is not None:
        yield Event(Kind.CONNECTION, seen.failed_at, name + _("the last look failed"), more=row.failure, **told)


@dataclass(frozen=True)
class Boot:
    """Which boot a server was in at a moment; ``booted_at`` by its own clock, where that is known."""

    at: datetime
    boot: str
    booted_at: datetime | None = None


def boots_of(processes: Any, at: datetime | None) -> Iterator[Boot]:
    """What stored processes say of it."""
    for row in processes or ():
        if at is not None and row.get("boot"):
            yield Boot(at, row["boot"], _booted_at(row.get("since"), row.get("start")))
            return


def _booted_at(since: Any, start: Any) -> datetime | None:
    try:
        began = datetime.strptime(str(since), MOMENT).replace(tzinfo=UTC)
        return began - timedelta(seconds=int(start) / _TICKS)
    except (TypeError, ValueError, OverflowError):
        return None


def reboots(boots: Iterable[Boot], server: str, number: int | None, window: Window) -> Iterator[Event]:
    """Each time that a server was seen in another boot than before. An id of a boot never comes back."""
    former: Boot | None = None
    known: set[str] = set()
    for boot in sorted(boots, key=lambda it: it.at):
        if former is not None and boot.boot not in known:
            told = boot.booted_at
            is_near = told is not None and former.at - _SLACK <= told <= boot.at + _SLACK
            at = min(max(told, former.at + timedelta(seconds=1)), boot.at) if told is not None and is_near else boot.at
            more = "" if is_near else _("Between %(first)s and %(last)s.") % _moments(former, boot)
            if window.holds(at):
                yield Event(
                    Kind.REBOOT,
                    at,
                    _("The machine was restarted: its boot id is another one."),
                    more=more,
                    of="server",
                    number=number,
                    server=server,
                )
        known.add(boot.boot)
        former = boot


def _moments(first: Boot, last: Boot) -> dict[str, str]:
    return {"first": local_time(first.at), "last": local_time(last.at)}


def reboots_of(server: Server, window: Window) -> Found:
    """The reboots of one server, as its deployments, its sightings and its last look tell of them."""
    if window.good is None:
        return Found()
    rows = Target.objects.filter(server=server, deployment__gte=window.good.deployment).exclude(started_at=None)
    boots: list[Boot] = []
    columns = ("begun_at", "finished_at", "proof__before", "proof__after")
    for begun, ended, before, after in rows.order_by("-pk").values_list(*columns)[:MOST]:
        boots += [*boots_of(before, begun or ended), *boots_of(after, ended)]
    for seen_at, processes in Sighting.objects.filter(server=server).values_list("seen_at", "processes"):
        boots += boots_of(processes, seen_at)
    boots += _of_facts(server.facts, server.last_checked_at)
    return found((event.at, event) for event in reboots(boots, "", server.pk, window))


def seen_of_servers(user: Person, project: Project, good: Good | None, window: Window) -> Found:
    """The reboots of the servers of a project, and those that did not answer lately."""
    left = Standing.objects.filter(project=project).order_by().values("server")
    seen = frozenset(Server.objects.reached_by(user).filter(pk__in=left).order_by().values_list("pk", flat=True))
    boots: dict[int, list[Boot]] = {}
    if good is not None:
        rows = Target.objects.filter(deployment=good.deployment, server__isnull=False)
        for server, ended, after in rows.values_list("server", "finished_at", "proof__after__0"):
            boots.setdefault(server, []).extend(boots_of([after] if after else (), ended))
    sightings = Sighting.objects.filter(project=project)
    for server, seen_at, first in sightings.values_list("server", "seen_at", "processes__0"):
        boots.setdefault(server, []).extend(boots_of([first] if first else (), seen_at))
    told: list[tuple[datetime, Event]] = []
    columns = ("facts", "last_checked_at", "name", "connection_status", "connection_error")
    for it in Server.objects.filter(pk__in=left, is_active=True).only(*columns):
        boots.setdefault(it.pk, []).extend(_of_facts(it.facts, it.last_checked_at))
        if good is not None:
            told += [(event.at, event) for event in reboots(boots[it.pk], it.name, it.pk, window)]
        told += [(event.at, event) for event in _link(it, it.name, window)]
    ordered = sorted(told, key=lambda one: one[0], reverse=True)
    shown = ((at, event if event.number in seen else None) for at, event in ordered[:MOST])
    return found(shown, ordered[MOST - 1][0] if len(ordered) > MOST else None)


def link_of(server: Server, window: Window) -> Found:
    """That one server did not answer lately, and why."""
    return found((event.at, event) for event in _link(server, "", window))


def _link(server: Server, name: str, window: Window) -> Sequence[Event]:
    at = server.last_checked_at
    if server.connection_status != Server.ConnectionStatus.OFFLINE or at is None or not window.holds(at):
        return ()
    what = _("The last connection failed.")
    return (Event(Kind.CONNECTION, at, what, more=server.connection_error, of="server", number=server.pk, server=name),)


def _of_facts(facts: Mapping[str, Any], at: datetime | None) -> Iterator[Boot]:
    boot = facts.get("boot_id")
    if boot and at is not None:
        yield Boot(at, str(boot))
