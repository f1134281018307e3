"""What is known of something that is to be told, frozen as plain values and bounded: texts are made of these alone."""

from collections.abc import Mapping
from typing import Any

from deployer.models import Deployment
from people.visible import visible

#: Characters of a fact, and servers that are named.
LONGEST, MOST_SERVERS, LONGEST_ERROR = 2_000, 20, 300
#: Where the pages are that notices lead to, by the names of their routes. `reverse` would load them all: a second and
#: 44 MB for each work horse that has something to tell, and none of its business.
PATHS = {
    "deployment": "/deployments/%d/",
    "project": "/projects/%d/",
    "project_triggers": "/projects/%d/triggers/",
    "server": "/servers/%d/",
    "train_run": "/trains/runs/%d/",
}


def path_of(page: str, number: int) -> str:
    """The path of a page about the row of that number."""
    return PATHS[page] % number


def of_deployment(it: Deployment) -> dict[str, Any]:
    """What every notice of a deployment says."""
    return {
        "project": it.project.name,
        "environment": it.environment,
        "number": it.pk,
        "type": it.deployment_type,
        "branch": it.branch,
        "commit": it.commit_hash,
        "subject": it.commit_message.partition("\n")[0],
        "release": it.release.version if it.release is not None else "",
        "rollback_of": it.rollback_from_id,
        "trigger": it.trigger,
        "who": it.launched_by,
        "status": it.status,
        "path": path_of("deployment", it.pk),
    }


def bounded(facts: Mapping[str, Any]) -> dict[str, Any]:
    """``facts`` without control characters, and with no more of each than a message has room for."""
    found = {name: _bounded(value) for name, value in facts.items() if value not in ("", None, [])}
    servers = facts.get("servers") or []
    if servers:
        found["servers"] = [
            {"name": visible(str(it["name"]), 100), "error": visible(str(it["error"]), LONGEST_ERROR)}
            for it in servers[:MOST_SERVERS]
        ]
        found["failed"] = len(servers)
    return found


def _bounded(value: Any) -> Any:
    return visible(value, LONGEST, lines=True) if isinstance(value, str) else value
