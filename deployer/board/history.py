"""Which variables went with which deployment: what each has changed, the newest first."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from deployer.board.comparison import Setting, differing_variables
from deployer.models import Deployment
from deployer.plan import Plan

#: Deployments of which one page tells.
MOST_DEPLOYMENTS = 50


@dataclass(frozen=True)
class Change:
    """The variables that differ between a deployment and the one of its project before it."""

    deployment: Deployment
    before: Deployment
    settings: tuple[Setting, ...]


def changes_of_variables(newest_first: Iterable[Deployment]) -> Iterator[Change]:
    """Of each of these deployments of one project what has changed; those that changed nothing are left out.

    One whose plan is not there, or cannot be read, is passed over.
    """
    later: tuple[Deployment, Plan] | None = None
    for it in newest_first:
        if not it.has_plan:
            continue
        plan = Plan.from_json(cast(dict[str, Any], it.plan))
        if later is not None:
            found = differing_variables(plan, later[1])
            if found:
                yield Change(later[0], it, tuple(found))
        later = it, plan
