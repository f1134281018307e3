"""A launch in one sentence, before it is launched: what, where and how, and what of it one would not expect."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, cast

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from deployer.gates.asking import Answer, Before
from deployer.gates.belonging import elsewhere
from deployer.launching.asked import LaunchRequest
from deployer.models import Deployment, Standing, Target
from deployer.plan import Plan, PlannedFile, PlannedStep
from deployer.repositories.changes import Changes
from projects.steps import Launched, Moment
from servers.models import Server
from servers.sentences import because, clauses, listed

#: What the button of each type says.
VERBS = {
    Deployment.Type.FULL: gettext_lazy("Deploy"),
    Deployment.Type.RESTART_ONLY: gettext_lazy("Restart"),
    Deployment.Type.STOP: gettext_lazy("Stop"),
    Deployment.Type.START: gettext_lazy("Start"),
}
#: Groups that the sentence names, and servers that a note names; of more the number is told.
NAMED = 3
#: Earlier deployments that are compared with what would be launched, the newest ones.
MOST_PLANS = 20


@dataclass(frozen=True)
class Summary:
    """``sentence`` is empty while nothing is chosen; ``notes`` are what should be looked at first, in amber.

    ``waits`` is what the button says where pressing it begins nothing yet; empty where it begins at once. ``number`` is
    that of all that should be looked at, what the gates say too.
    """

    sentence: str = ""
    notes: tuple[str, ...] = ()
    waits: str = ""
    number: int = 0


def summary_of(
    request: LaunchRequest, gates: Answer, changes: Changes | None = None, plan: Plan | None = None
) -> Summary:
    """``request`` as far as it is filled in.

    ``changes`` are the commits that it brings, ``plan`` is what it would do as far as that can be read.
    """
    waits = _waits(gates, is_overridden=bool(request.override))
    told = len(gates.obstacles) + len(gates.remarks)
    if not request.active:
        groups = ", ".join(f"“{group}”" for group in request.groups)
        nothing = _("There is no active server in %(groups)s: add one or activate one.") % {"groups": groups}
        return Summary(nothing if groups else "", waits=waits, number=told)
    known = changes or Changes()
    parts = [_what_and_where(request, known), *_how(request, plan)]
    sentence = reduce(lambda told, part: _("%(told)s, %(part)s") % {"told": told, "part": part}, parts)
    notes = tuple(_notes(request, known, plan))
    return Summary(sentence, notes, waits, len(notes) + told)


def _waits(gates: Answer, *, is_overridden: bool) -> str:
    before = {each.before for each in gates.obstacles if not is_overridden or each.before == Before.PLACE}
    if before - {Before.APPROVAL}:
        return _("Wait in line")
    if before:
        return _("Ask for approval") if gates.asks_approval else _("Wait for the proof")
    return ""


# --- the sentence -----------------------------------------------------------------------------------------------------


def _what_and_where(request: LaunchRequest, changes: Changes) -> str:
    words = {"project": request.project, "where": _where(request)}
    if request.deployment_type == Deployment.Type.RESTART_ONLY:
        return _("Restart %(project)s on %(where)s") % words
    if request.deployment_type == Deployment.Type.STOP:
        return _("Stop %(project)s on %(where)s") % words
    if request.deployment_type == Deployment.Type.START:
        return _("Start %(project)s on %(where)s") % words
    return _("Deploy %(what)s to %(where)s") % {**words, "what": _what(request, changes)}


def _what(request: LaunchRequest, changes: Changes) -> str:
    if request.release is not None:
        what = _("release %s") % request.release
    elif changes.head:
        what = changes.head[:8]
        if request.code != request.project.default_branch and not changes.head.startswith(request.code):
            what = _("%(commit)s of %(branch)s") % {"commit": what, "branch": request.code}
    else:
        what = request.code
    number = _commits(changes)
    return _("%(what)s (%(number)s)") % {"what": what, "number": number} if number else what


def _commits(changes: Changes) -> str:
    """How many commits are new on the servers; empty where that is not known."""
    known = [gap for gap in changes.steps if not gap.problem]
    if not known:
        return ""
    least, most = (choose(gap.added.count for gap in known) for choose in (min, max))
    if most == 0:
        return "" if any(gap.removed.count for gap in known) else _("the same commit")
    if least != most:
        return _("%(least)d to %(most)d commits") % {"least": least, "most": most}
    return ngettext("%d commit", "%d commits", most) % most


def _where(request: LaunchRequest) -> str:
    active, groups = request.active, [str(group) for group in request.groups]
    more = len(groups) > NAMED
    words: dict[str, Any] = {
        "groups": _("%d groups") % len(groups) if more else ", ".join(groups),
        "environment": str(request.project.get_environment_display()).lower(),
        "number": len(active),
        "all": len(request.members),
        "server": active[0],
    }
    if len(active) == 1:
        return _("%(server)s of %(groups)s, %(environment)s") % words
    if request.only is not None and len(active) < len(request.members):
        return _("%(number)d of %(all)d servers of %(groups)s, %(environment)s") % words
    return _("%(number)d servers of %(groups)s, %(environment)s") % words


def _how(request: LaunchRequest, plan: Plan | None) -> Iterator[str]:
    """In which order, and after what."""
    servers = len(request.active)
    try:
        batches = len({*request.batch_of_each().values()})
    except ValidationError:  # the form is still being filled in
        batches = 0
    if batches and servers > 1:
        if batches == 1:
            yield _("all at once")
        elif batches == servers:
            yield _("one after the other")
        else:
            yield _("in %d batches") % batches
    steps = plan.steps_at(Moment.BEFORE_ALL, _launched(request)) if plan else []
    if len(steps) == 1:
        yield _("after the step “%s”") % steps[0].name
    elif steps:
        yield _("after %d steps") % len(steps)


def _launched(request: LaunchRequest) -> str:
    return request.deployment_type if request.keeps_release else Launched.FULL


# --- what one would not expect ----------------------------------------------------------------------------------------


def _notes(request: LaunchRequest, changes: Changes, plan: Plan | None) -> Iterator[str]:
    active, last = request.active, _last(request)
    stopped = [server for server in active if server.pk in last and last[server.pk].has_stopped]
    told = {
        _("Offline when last checked: %s"): [
            server for server in active if server.connection_status == Server.ConnectionStatus.OFFLINE
        ],
        _("Nothing was deployed there yet: %s"): [server for server in active if server.pk not in last],
        _("Stopped on purpose, and started by this: %s"): stopped if request.puts_files else [],
    }
    if strange := elsewhere(request.project, request.groups):
        yield _("Not one of its own groups: %s") % listed([str(group) for group in strange])
    if left_out := [str(server) for server in request.servers if not server.is_active]:
        yield _("Not active, and left out: %s") % listed(left_out, NAMED)
    for text, servers in told.items():
        if servers:
            yield text % _named([str(server) for server in servers], request)
    yield from _seen(request)
    if not request.keeps_release:
        yield from _taken_back(request, changes)
    if plan is not None:
        left: dict[int, set[int]] = {}
        for server in active:
            if server.pk in last and (deployment := last[server.pk].deployment) is not None:
                left.setdefault(deployment, set()).add(server.pk)
        yield from _changed(request, plan, left)


def _named(servers: Sequence[str], request: LaunchRequest) -> str:
    is_all = len(servers) == len(request.active) > 1
    return _("all of them") if is_all else listed(servers, NAMED)


class _Last(NamedTuple):
    """The last deployment on a server, and whether it has stopped the application there."""

    deployment: int | None
    has_stopped: bool


def _last(request: LaunchRequest) -> dict[int, _Last]:
    """That of each server that the project was ever deployed to."""
    rows = Standing.objects.filter(project=request.project).order_by()
    columns = ("server", "last__deployment", "last__status", "last__deployment__deployment_type")
    stopped = (Target.Status.SUCCESS, Deployment.Type.STOP)
    return {server: _Last(pk, (status, kind) == stopped) for server, pk, status, kind in rows.values_list(*columns)}


def _seen(request: LaunchRequest) -> Iterator[str]:
    """How servers differ from what was left there when they were last seen."""
    names = {server.pk: str(server) for server in request.active}
    rows: Any = Standing.objects.filter(project=request.project).order_by("server__name").with_state()
    alike: dict[str, list[str]] = {}
    for standing in rows.filter(is_different=1).whole():
        if standing.server_id in names:
            alike.setdefault(clauses(*standing.drift), []).append(names[standing.server_id])
    for told, servers in alike.items():
        yield because(_("Not as it was left when last seen: %s") % _named(servers, request), told)


def _taken_back(request: LaunchRequest, changes: Changes) -> Iterator[str]:
    for gap in changes.steps:
        if number := gap.removed.count:
            told = ngettext(
                "%(number)d commit is taken back: %(servers)s", "%(number)d commits are taken back: %(servers)s", number
            )
            yield told % {"number": number, "servers": _named(gap.servers, request)}


def _changed(request: LaunchRequest, plan: Plan, left: Mapping[int, Collection[int]]) -> Iterator[str]:
    """The steps and config files that are other ones than those of the deployments which were last on the servers.

    ``left`` are the servers of each of those.
    """
    steps: dict[str, None] = {}
    files: dict[str, None] = {}
    newest = sorted(left, reverse=True)[:MOST_PLANS]
    for it in Deployment.objects.filter(pk__in=newest).only("plan").order_by("-pk"):
        if not it.has_plan:
            continue
        former = Plan.from_json(cast(dict[str, Any], it.plan))
        steps |= dict.fromkeys(_other(_steps(former, request), _steps(plan, request)))
        if request.puts_files:
            servers = left[it.pk]
            files |= dict.fromkeys(_other(_files(former, servers), _files(plan, servers)))
    if steps:
        yield _("Steps that were changed since the last deployment there: %s") % listed([*steps])
    if files:
        yield _("Config files that were changed since the last deployment there: %s") % listed([*files])


def _steps(plan: Plan, request: LaunchRequest) -> dict[str, PlannedStep]:
    return {step.label: step for step in plan.steps if _launched(request) in step.types}


def _files(plan: Plan, servers: Collection[int]) -> dict[str, Sequence[Any]]:
    def has(file: PlannedFile) -> bool:
        return file.servers is None or not {*file.servers}.isdisjoint(servers)

    return {
        file.label: (file.content, file.is_template, file.check, file.mode, file.owner)
        for file in plan.config_files
        if has(file)
    }


def _other(former: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The names of what is new, gone or another one."""
    for name in dict.fromkeys((*now, *former)):
        if former.get(name) != now.get(name):
            yield name
