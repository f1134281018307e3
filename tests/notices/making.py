"""Channels and deployments for tests of notices."""

import itertools
from datetime import datetime
from typing import Any

from deployer.models import Channel, Deployment, Event, Notice
from deployer.notices.courier import Courier
from deployer.notices.events import CHOICES
from projects.models import Project
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.sink import Sink

_numbers = itertools.count(1)


def make_channel(sink: Sink | None = None, kind: str = "slack", **values: Any) -> Channel:
    """A channel that tells everything to ``sink``, or to nobody who answers."""
    url = f"{sink.url}/hook" if sink is not None else "http://127.0.0.1:9/hook"
    addresses = {
        "mail": {"to": "ops@example.com"},
        "telegram": {"token": "123:abc", "chat": "-100", "server": url},
        "webhook": {"url": url, "secret": "signing key"},
    }
    defaults = {
        "name": f"channel-{next(_numbers)}",
        "kind": kind,
        "address": addresses.get(kind, {"url": url}),
        "events": [*CHOICES],
        "first_of_a_row": False,
    }
    return Channel.objects.create(**defaults | values)


def make_two() -> tuple[Project, list[Any]]:
    """A project, and its group with two servers."""
    group = make_group(make_server(name=f"web-{next(_numbers)}"), make_server(name=f"db-{next(_numbers)}"))
    return make_project(name=f"shop-{next(_numbers)}"), [group]


def ended(project: Project, groups: list[Any], status: str = "failed", error: str = "", **values: Any) -> Deployment:
    """A deployment that a worker took and ended."""
    it = make_deployment(project, *groups, **{"branch": "main"} | values)
    assert it.claim_for_worker()
    end = {"success": "success", "cancelled": "cancelled"}.get(status, "failed")
    it.targets.update(status=end, error=error)
    assert it.end(Deployment.Status(status), error)
    return it


def told(channel: Channel) -> list[str]:
    """The events that a channel has notices of, the oldest first."""
    return [*Notice.objects.filter(channel=channel).order_by("pk").values_list("event", flat=True)]


def deliver_all(now: datetime, courier: Courier | None = None, turns: int = 20) -> Courier:
    """Turn by turn, until nothing is due any more."""
    courier = courier or Courier()
    for _turn in range(turns):
        begun = courier.turn(now)
        courier.wait(30)
        if not begun:
            break
    return courier


def notice(channel: Channel, event: str = Event.FAILED, **values: Any) -> Notice:
    """A notice that waits to be sent."""
    now = values.pop("now")
    facts = {"project": "shop", "environment": "production", "number": 12, "path": "/deployments/12/"}
    return Notice.objects.create(
        channel=channel, event=event, facts=facts | values.pop("facts", {}), created_at=now, next_at=now, **values
    )
