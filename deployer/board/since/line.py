"""The line of time of a server or a project: all sources together, the newest first, and in one sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from django.http import Http404
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.board.since import good as ends
from deployer.board.since.events import Event, Found, Good, Kind, Window
from deployer.board.since.ran import commands_on, deployments_of, deployments_on
from deployer.board.since.recorded import Scope, changes_in
from deployer.board.since.seen import drift_in, link_of, reboots_of, seen_of_servers
from deployer.models import Deployment, Standing, Target
from pages.times import local_time
from people.rights import Person
from projects.models import Project
from servers.models import Server


@dataclass(frozen=True)
class Line:
    """What happened in a window, the newest first; ``hidden`` are the things out of sight.

    ``older`` is the window of what was before, where there is more than one page of it.
    """

    window: Window
    events: tuple[Event, ...]
    hidden: int
    older: Window | None

    @property
    def good(self) -> Good | None:
        """Since when it is told."""
        return self.window.good

    @property
    def is_first(self) -> bool:
        """Whether it is the newest page."""
        return self.window.until is None

    @property
    def counts(self) -> tuple[str, ...]:
        """How many things of each kind, in words."""
        things: dict[Kind, set[object]] = {}
        for event in self.events:
            if event.of:  # else it only says that there are more
                things.setdefault(event.kind, set()).add(event.thing)
        return tuple(_counted(kind, len(things[kind])) for kind in Kind if kind in things)

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        listed = ", ".join(self.counts)
        counted = _("%s and more") % listed if listed and self.older else listed
        words = {"counts": counted, "number": self.good.deployment if self.good else 0}
        words["when"] = local_time(self.good.at) if self.good else ""
        if self.good is None:
            return (
                _("No good end is known. What is known: %(counts)s.") % words
                if counted
                else _("No good end is known, and nothing else.")
            )
        return self._since_good(bool(counted)) % words

    def _since_good(self, has_any: bool) -> str:
        if self.window.good_again is not None:
            return (
                _("From #%(number)d, good on %(when)s, until it was good again: %(counts)s.")
                if has_any
                else _("From #%(number)d, good on %(when)s, until it was good again: nothing that is known.")
            )
        if self.good is not None and self.good.is_proved:
            return (
                _("Since #%(number)d was proved here on %(when)s: %(counts)s.")
                if has_any
                else _("Since #%(number)d was proved here on %(when)s, nothing that is known has changed.")
            )
        return (
            _("Since #%(number)d ended well on %(when)s: %(counts)s.")
            if has_any
            else _("Since #%(number)d ended well on %(when)s, nothing that is known has changed.")
        )


def _counted(kind: Kind, number: int) -> str:
    told = {
        Kind.DEPLOYMENT: ngettext("%d deployment", "%d deployments", number),
        Kind.FILE: ngettext("%d config file", "%d config files", number),
        Kind.VARIABLE: ngettext("%d variable", "%d variables", number),
        Kind.STEP: ngettext("%d step", "%d steps", number),
        Kind.SETTING: ngettext("settings of %d thing", "settings of %d things", number),
        Kind.COMMAND: ngettext("%d command", "%d commands", number),
        Kind.REBOOT: ngettext("%d reboot", "%d reboots", number),
        Kind.HOST_KEY: ngettext("%d host key", "%d host keys", number),
        Kind.SERVER: ngettext("%d server, group or login", "%d servers, groups or logins", number),
        Kind.BY_HAND: ngettext("%d file changed by hand", "%d files changed by hand", number),
        Kind.DRIFT: ngettext("%d drift", "%d drifts", number),
        Kind.GATE: ngettext("%d lock or override", "%d locks or overrides", number),
        Kind.CONNECTION: ngettext("%d failed connection", "%d failed connections", number),
    }
    return told[kind] % number


@dataclass(frozen=True)
class Asked:
    """What a line is asked for: the way to a deployment that failed, or that of one project; a page before another."""

    deployment: int | None = None
    project: int | None = None
    page: Window = field(default_factory=Window)


def of_server(user: Person, server: Server, asked: Asked) -> Line:
    """The line of a server. Raises `Http404` where it is asked for what is out of sight."""
    about = _deployment(user, asked, server=server)
    standings = Standing.objects.filter(server=server)
    here = [*standings.order_by().values_list("project", flat=True)]
    seen = Project.objects.reached_by(user).in_bulk(here)
    number = about.project_id if about is not None else asked.project
    if asked.project is not None and asked.project not in seen:
        raise Http404
    chosen = seen.get(number) if number is not None else None
    good, good_again = ends.of_server(user, server, chosen, about)
    window = replace(asked.page, good=good, good_again=good_again)
    projects = [chosen.pk] if chosen is not None else here
    groups = [*server.groups.order_by().values_list("pk", flat=True)]
    scope = Scope(user, projects, {pk: seen[pk] for pk in projects if pk in seen}, [server.pk], server, groups)
    return _line(
        window,
        deployments_on(user, server, window),
        commands_on(user, [server.pk], window, is_one=True),
        changes_in(scope, window),
        drift_in(user, standings, seen, window, is_one=True),
        reboots_of(server, window),
        link_of(server, window),
    )


def of_project(user: Person, project: Project, asked: Asked) -> Line:
    """The line of a project, on all of its servers. Raises `Http404` as `of_server` does."""
    about = _deployment(user, asked, project=project)
    good, good_again = ends.of_project(user, project, about)
    window = replace(asked.page, good=good, good_again=good_again)
    standings = Standing.objects.filter(project=project)
    servers = standings.order_by().values("server")
    return _line(
        window,
        deployments_of(user, project, window),
        commands_on(user, servers, window, is_one=False),
        changes_in(Scope(user, [project.pk], {project.pk: project}, servers), window),
        drift_in(user, standings, {project.pk: project}, window, is_one=False),
        seen_of_servers(user, project, good, window),
    )


def _deployment(
    user: Person, asked: Asked, server: Server | None = None, project: Project | None = None
) -> Deployment | None:
    if asked.deployment is None:
        return None
    rows = Deployment.objects.reached_by(user).filter(pk=asked.deployment)
    if server is not None:
        rows = rows.filter(pk__in=Target.objects.filter(server=server).order_by().values("deployment"))
    if project is not None:
        rows = rows.filter(project=project)
    row = rows.only("project").first()
    if row is None:
        raise Http404
    return row


def _line(window: Window, *sources: Found) -> Line:
    cuts = [it.cut_at for it in sources if it.cut_at is not None]
    cut = max(cuts, default=None)
    entry = next((it.cut_entry for it in sources if cut is not None and it.cut_at == cut and it.cut_entry), None)
    events = [event for it in sources for event in it.events if cut in (None, it.cut_at) or event.at >= cut]
    hidden = sum(cut is None or at >= cut for it in sources for at in it.hidden)
    older = replace(window, until=cut, entry=entry) if cut is not None else None
    return Line(window, tuple(_in_order(events)), hidden, older)


def _in_order(events: Sequence[Event]) -> Iterator[Event]:
    yield from sorted(events, key=lambda event: (event.at, event.entry or 0), reverse=True)
