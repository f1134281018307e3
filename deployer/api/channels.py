"""Channels, whose addresses go in and never come out, and the notices that are sent by them."""

from typing import Annotated, Any

from django.db.models import QuerySet
from ninja import Field

from deployer.api.columns import Columns, value_of
from deployer.api.filling import keep, refusal_of
from deployer.api.frame import Id, Input, Name, Reason
from deployer.api.nouns import Filter, Noun, open_act, register
from deployer.api.shapes import Moment, WithoutNul, example
from deployer.gates.forms import ReasonForm
from deployer.models import Channel, ChannelKind, Event, Notice
from deployer.notices import by_hand
from deployer.notices.forms import ChannelForm, kinds_for
from deployer.notices.kinds.every import FOR_ADMINS, KINDS
from people.models import User
from people.record import delete
from people.rights import insist, reach
from people.roles import EVERYWHERE, Action
from servers.models import Environment

TAG = "notices"
_Language = Annotated[str, Field(max_length=10), WithoutNul]
_TYPES = {
    "events": Annotated[list[value_of(Event)], Field(max_length=len(Event))],  # type: ignore[misc]  # known when loaded
    "environments": Annotated[list[Environment], Field(max_length=len(Environment))],
    "language": _Language,
}
_CHANGED = ("name", "events", "only_failures", "first_of_a_row", "environments", "projects", "language")
_CHANGES = Columns(Channel, _CHANGED, types=_TYPES)
_COLUMNS = Columns(Channel, ("kind", *_CHANGED), types=_TYPES)
_INSIDE = _COLUMNS.inside
_PART = Annotated[str, Field(max_length=10_000), WithoutNul]
_ADDRESS: dict[str, Any] = {"address": (dict[Name, _PART], Field({}, max_length=20))}


def _rows(user: User) -> "QuerySet[Channel]":
    rows = Channel.objects.reached_by(user).select_related("made_by").prefetch_related("projects")
    return rows.defer("address").order_by("name")


def _told(it: Channel, _user: User) -> dict[str, Any]:
    return _COLUMNS.told(
        it,
        is_active=it.is_active,
        paused_reason=it.paused_reason,
        made_by=it.made_by.get_username() if it.made_by else None,
        last_at=it.last_at,
        last_ok=it.last_ok,
        last_answer=it.last_answer,
        failures=it.failures,
    )


def _make(user: User, values: dict[str, Any]) -> Channel:
    if not reach(user, Action.EDIT):
        insist(user, Action.EDIT, EVERYWHERE)
    kind = ChannelKind(values.pop("kind"))
    if kind not in kinds_for(user):
        insist(user, Action.ADMINISTER, EVERYWHERE)
    return _kept(user, Channel(kind=kind, made_by=user), values)


def _edit(user: User, it: Channel, values: dict[str, Any]) -> Channel:
    insist(user, Action.EDIT, it)
    if it.kind in FOR_ADMINS:
        insist(user, Action.ADMINISTER, EVERYWHERE)
    return _kept(user, it, values)


def _kept(user: User, it: Channel, values: dict[str, Any]) -> Channel:
    parts = {ChannelForm.box_of(name): value for name, value in values.pop("address", {}).items()}
    boxes = {_INSIDE[name]: value for name, value in values.items()} | parts
    known = [ChannelForm.box_of(each.name) for each in KINDS[it.kind].fields]
    outside = {inside: name for name, inside in _INSIDE.items()} | dict.fromkeys([*parts, *known], "address")
    found: Channel = keep(lambda data: ChannelForm(data, instance=it, user=user), boxes, outside)
    return found


def _remove(user: User, it: Channel) -> None:
    insist(user, Action.EDIT, it)
    delete(it)


class PauseInput(Input):
    """Why nothing is told meanwhile."""

    model_config = example(reason="The room moves")

    reason: Reason


def _pause(user: User, it: Channel, values: dict[str, Any]) -> Channel:
    insist(user, Action.EDIT, it)
    form = ReasonForm({"reason": values["reason"]})
    if not form.is_valid():
        raise refusal_of(form.errors, {})
    by_hand.pause(it, form.cleaned_data["reason"])
    return it


def _resume(user: User, it: Channel, _values: dict[str, Any]) -> Channel:
    insist(user, Action.EDIT, it)
    by_hand.resume(it)
    return it


def _test(user: User, it: Channel, _values: dict[str, Any]) -> Notice:
    insist(user, Action.EDIT, it)
    return by_hand.send_test(it, user)


CHANNELS = Noun(
    path="channels",
    one="channel",
    tag=TAG,
    about="The channels by which people and other systems are told what happens, by name.",
    shape=_COLUMNS.shape(
        "ChannelShape",
        "Where something is told, and what. Without ``environments`` and ``project_ids`` it is for all. Its address is "
        "told by nothing.",
        shown={
            "id": 1,
            "kind": "slack",
            "name": "operations",
            "events": ["failed", "recovered"],
            "only_failures": False,
            "first_of_a_row": True,
            "environments": ["production"],
            "project_ids": [],
            "language": "",
            "is_active": True,
            "paused_reason": "",
            "made_by": "ann",
            "last_at": "2026-11-26T08:01:00.031000+00:00",
            "last_ok": True,
            "last_answer": "200 OK",
            "failures": 0,
        },
        is_active=(bool, ...),
        paused_reason=(str, ...),
        made_by=(str | None, ...),
        last_at=(Moment | None, ...),
        last_ok=(bool | None, ...),
        last_answer=(str, ...),
        failures=(int, ...),
    ),
    rows=_rows,
    told=_told,
    filters={
        "name": Filter(Name, "name"),
        "kind": Filter(value_of(ChannelKind), "kind"),
        "is_active": Filter(bool, "is_active"),
    },
    new=_COLUMNS.new(
        "ChannelInput",
        "A new channel. ``address`` has what its kind needs, by name: docs/notices.md lists that.",
        needed=("name", "kind"),
        **_ADDRESS,
    ),
    make=_make,
    change=_CHANGES.change(
        "ChannelChange", "What is to be another in a channel, also of its address; its kind stays.", **_ADDRESS
    ),
    edit=_edit,
    remove=_remove,
    about_remove="Forget a channel, with its address and its outbox.",
)
register(CHANNELS)
open_act(CHANNELS, "pause", _pause, "Pause a channel: what happens meanwhile is not told.", asked=PauseInput)
open_act(CHANNELS, "resume", _resume, "Let a channel tell what happens again.")

# --- notices -------------------------------------------------------------------------------------------

_NOTICE = Columns(
    Notice,
    ("channel", "event", "deployment", "status", "message_id", "tries", "next_at", "answer", "created_at", "sent_at"),
)

NOTICES = Noun(
    path="notices",
    one="notice",
    tag=TAG,
    about="What is or was sent by the channels that the token's user may edit, the newest first.",
    shape=_NOTICE.shape(
        "NoticeShape",
        "One thing that a channel tells: how far that is, and what its receiver has answered.",
        shown={
            "id": 1,
            "channel_id": 1,
            "event": "failed",
            "deployment_id": 17,
            "status": "sent",
            "message_id": "9f86d081884c7d659a2feaa0c55ad015",
            "tries": 1,
            "next_at": None,
            "answer": "200 OK",
            "created_at": "2026-11-26T08:01:00.031000+00:00",
            "sent_at": "2026-11-26T08:01:01.120000+00:00",
            "project_id": 1,
        },
        project_id=(int | None, ...),
    ),
    rows=lambda user: Notice.objects.filter(
        channel__in=Channel.objects.reached_by(user, Action.EDIT).order_by().values("pk")
    ).order_by("-pk"),
    told=lambda row, _user: _NOTICE.told(row, project_id=row.project),
    filters={
        "channel_id": Filter(Id, "channel"),
        "project_id": Filter(Id, "project"),
        "deployment_id": Filter(Id, "deployment"),
        "event": Filter(value_of(Event), "event"),
        "status": Filter(value_of(Notice.Status), "status"),
    },
)
register(NOTICES)
open_act(
    CHANNELS,
    "test",
    _test,
    "Send something that says nothing but that it came; its answer is told by its number.",
    tells=NOTICES,
)
