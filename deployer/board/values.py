"""Which variables have changed since servers were last deployed to: a restart gives them those."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from deployer.models import Deployment, Standing
from deployer.plan import Plan
from projects.effective import BUILD, DEPLOY, Effective, Given, Values
from projects.given import given_to, questions_of
from projects.models import Project
from servers.fields import DecryptionError

#: Deployments whose plans are read, the newest ones of those that servers were left by.
MOST_PLANS = 20


@dataclass(frozen=True)
class Behind:
    """Servers on which these variables are not yet as they are set, by name; ``numbers`` are the servers' ids."""

    variables: tuple[str, ...]
    servers: tuple[str, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class NewValues:
    """``behind`` is what a restart gives; ``build`` are the names that a new build takes: changed since ``built``."""

    behind: tuple[Behind, ...] = ()
    build: tuple[str, ...] = ()
    built: Deployment | None = None

    def __bool__(self) -> bool:
        return bool(self.behind or self.build)


def news_of(project: Project) -> NewValues:
    """What has changed since the servers of a project were last deployed to.

    What is asked for at each launch is left out, and so is what cannot be read.
    """
    try:
        given = given_to(project)
    except DecryptionError:
        return NewValues()
    asked = {question.name for question in questions_of(project)}
    rows = Standing.objects.filter(project=project, last__isnull=False, server__is_active=True)
    left: dict[int, dict[int, str]] = {}
    for deployment, server, name in rows.order_by("server__name").values_list(
        "last__deployment", "server", "server__name"
    ):
        left.setdefault(deployment, {})[server] = name
    newest = sorted(left, reverse=True)[:MOST_PLANS]
    found: dict[tuple[str, ...], dict[int, str]] = {}
    for it in Deployment.objects.filter(pk__in=newest).only("plan"):
        plan = _plan_of(it)
        for server, names in _differing(plan.values, given, left[it.pk], asked) if plan else ():
            found.setdefault(names, {})[server] = left[it.pk][server]
    behind = (Behind(names, tuple(servers.values()), tuple(servers)) for names, servers in sorted(found.items()))
    build, built = _of_build(project, given, asked)
    return NewValues(tuple(behind), build, built)


def _differing(
    then: Values, given: Given, servers: Mapping[int, str], asked: set[str]
) -> "list[tuple[int, tuple[str, ...]]]":
    """Each server with the names that differ there; it is worked out once for all that are alike."""
    now = given.values(servers.keys())
    known: dict[tuple[Any, Any], tuple[str, ...]] = {}
    before = {server: key for key, alike in then.alike(servers).items() for server in alike}
    after = {server: key for key, alike in now.alike(servers).items() for server in alike}
    found = []
    for server in servers:
        key = (before[server], after[server])
        if key not in known:
            known[key] = _names(then.on(server, DEPLOY), now.on(server, DEPLOY), asked)
        if known[key]:
            found.append((server, known[key]))
    return found


def _names(then: Mapping[str, Effective], now: Mapping[str, Effective], asked: set[str]) -> tuple[str, ...]:
    values = [{name: each.value.content for name, each in side.items()} for side in (then, now)]
    names = sorted((values[0].keys() | values[1].keys()) - asked)
    return tuple(name for name in names if values[0].get(name) != values[1].get(name))


def _of_build(project: Project, given: Given, asked: set[str]) -> tuple[tuple[str, ...], Deployment | None]:
    """The names of the build that differ from those of the newest deployment that had one to do, and that deployment.

    One for scripts as well is told by those.
    """
    full = Deployment.objects.filter(
        project=project, deployment_type=Deployment.Type.FULL, status=Deployment.Status.SUCCESS, rollback_from=None
    )
    it = full.only("plan").first()
    plan = _plan_of(it) if it is not None else None
    if plan is None:
        return (), None
    then, now = plan.values.everywhere(BUILD), given.values([]).everywhere(BUILD)
    return _names(then, now, asked), it


def _plan_of(it: Deployment) -> Plan | None:
    return Plan.from_json(cast(dict[str, Any], it.plan)) if it.has_plan else None
