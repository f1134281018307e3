"""What has changed since it was good: the line of time of a server, and of a project."""

from typing import Annotated, Any

from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _
from ninja import Schema
from ninja.params.functions import Query
from pydantic import AwareDatetime

from deployer.api.frame import TELLS_OF_ONE, Id, api, row_of
from deployer.api.refused import RefusedError
from deployer.api.shapes import Moment, example, one_of
from deployer.api.tokens import user_of
from deployer.board.since.events import Event, Good, Kind, Window, known_year
from deployer.board.since.line import Asked, Line, of_project, of_server
from deployer.models import Deployment
from projects.models import Project
from servers.models import Server

_WHEN = "2026-11-26T08:01:00.031000+00:00"
_GOOD: dict[str, Any] = {"deployment_id": 60, "project": "shop", "launched_at": _WHEN, "at": _WHEN, "is_proved": True}
_CHANGE: dict[str, Any] = {"name": "value", "before": "fingerprint 9a66c5d9", "after": "fingerprint 612bc059"}
_EVENT: dict[str, Any] = {
    "kind": "variable",
    "at": _WHEN,
    "what": "TOKEN: changed",
    "who": "ann",
    "more": "",
    "server": "",
    "status": "",
    "thing": "variable",
    "number": 4,
    "changes": [_CHANGE],
}


class GoodShape(Schema):
    """The end of a deployment that was good; ``is_proved``: the service is known to have been replaced."""

    model_config = example(**_GOOD)

    deployment_id: int
    project: str
    launched_at: Moment
    at: Moment
    is_proved: bool


class FieldChangeShape(Schema):
    """A field that changed. Secrets are told by their fingerprints; both sides are empty where they are not for you."""

    model_config = example(**_CHANGE)

    name: str
    before: str
    after: str


class HappenedShape(Schema):
    """Something that happened: what in words, who did it if known, and the thing by its kind and number."""

    model_config = example(**_EVENT)

    kind: Annotated[str, one_of(Kind)]
    at: Moment
    what: str
    who: str
    more: str
    server: str
    status: str
    thing: str
    number: int | None
    changes: list[FieldChangeShape]


class OlderShape(Schema):
    """What to ask for as ``until`` and ``entry``, for what was before."""

    model_config = example(until=_WHEN, entry=None)

    until: Moment
    entry: int | None


class SinceShape(Schema):
    """What happened since a good end, the newest first, and in a sentence; ``hidden`` things are out of your sight."""

    model_config = example(
        sentence="Since #60 was proved here on 2026-11-26 08:01:00 UTC: 1 variable.",
        since=_GOOD,
        good_again=None,
        hidden=0,
        events=[_EVENT],
        older=None,
    )

    sentence: str
    since: GoodShape | None
    good_again: GoodShape | None
    hidden: int
    events: list[HappenedShape]
    older: OlderShape | None


class SinceAsked(Schema):
    """``deployment_id``: from the good end before that deployment until the next one after it."""

    deployment_id: Id | None = None
    until: AwareDatetime | None = None
    entry: Id | None = None


class SinceAskedOfServer(SinceAsked):
    """The same; ``project_id``: since that project was good there."""

    project_id: Id | None = None


@api.get("/servers/{server_id}/since", response={200: SinceShape, **TELLS_OF_ONE}, tags=["servers"])
def server_since(request: HttpRequest, server_id: Id, asked: Annotated[SinceAskedOfServer, Query()]) -> dict[str, Any]:
    """What has changed on a server since it was last good there."""
    user = user_of(request)
    server = row_of(Server.objects.reached_by(user), server_id, "server_id")
    if asked.project_id is not None:
        row_of(Project.objects.reached_by(user), asked.project_id, "project_id")
    try:
        return _told(of_server(user, server, _asked(user, asked, asked.project_id)))
    except Http404 as error:
        raise RefusedError(404, _("It was never on this server."), field="server_id") from error


@api.get("/projects/{project_id}/since", response={200: SinceShape, **TELLS_OF_ONE}, tags=["projects and groups"])
def project_since(request: HttpRequest, project_id: Id, asked: Annotated[SinceAsked, Query()]) -> dict[str, Any]:
    """What has changed of a project, and on its servers, since it last ended well everywhere."""
    user = user_of(request)
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    try:
        return _told(of_project(user, project, _asked(user, asked)))
    except Http404 as error:
        raise RefusedError(404, _("It is none of this project."), field="deployment_id") from error


def _asked(user: Any, asked: SinceAsked, project: int | None = None) -> Asked:
    if asked.deployment_id is not None:
        row_of(Deployment.objects.reached_by(user).only("project"), asked.deployment_id, "deployment_id")
    page = Window(until=known_year(asked.until), entry=asked.entry) if asked.until is not None else Window()
    return Asked(asked.deployment_id, project, page)


def _told(line: Line) -> dict[str, Any]:
    older = line.older
    return {
        "sentence": line.sentence,
        "since": _good(line.good),
        "good_again": _good(line.window.good_again),
        "hidden": line.hidden,
        "events": [_event(event) for event in line.events],
        "older": {"until": older.until, "entry": older.entry} if older is not None else None,
    }


def _good(good: Good | None) -> dict[str, Any] | None:
    if good is None:
        return None
    told = {name: getattr(good, name) for name in ("project", "launched_at", "at", "is_proved")}
    return {"deployment_id": good.deployment, **told}


def _event(event: Event) -> dict[str, Any]:
    names = ("kind", "at", "what", "who", "more", "server", "status", "number")
    changes = [{"name": it.name, "before": it.before, "after": it.after} for it in event.changes]
    thing = event.of.partition(" ")[0]
    return {**{name: getattr(event, name) for name in names}, "thing": thing, "changes": changes}
