"""Webhooks of projects, whose secrets are told once, and the deliveries that were sent to them."""

from typing import Annotated, Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from ninja import Field, Schema

from deployer.api import answers
from deployer.api.columns import Columns, value_of
from deployer.api.config_files import editable, of_current_project
from deployer.api.filling import keep
from deployer.api.frame import Id, Name
from deployer.api.nouns import Filter, Noun, open_act, register
from deployer.api.refused import RefusedError
from deployer.api.schedules import TAG
from deployer.api.shapes import WithoutNul
from deployer.models import Delivery, Webhook
from deployer.queue.sending import enqueue_deliveries
from deployer.triggers import by_hand
from deployer.triggers.webhook_forms import WebhookForm
from people.models import User
from people.record import delete
from people.rights import may
from people.roles import Action
from projects.validators import LONGEST_PATTERN, MOST_PATTERNS

_Patterns = Annotated[
    list[Annotated[str, Field(max_length=LONGEST_PATTERN), WithoutNul]], Field(max_length=MOST_PATTERNS)
]
_Events = Annotated[list[value_of(Webhook.Event)], Field(max_length=len(Webhook.Event))]  # type: ignore[misc, valid-type]  # known when loaded
_CHANGED = ("name", "events", "refs", "paths", "workflows", "deployment_type", "server_groups", "queue")
_TYPES = {"events": _Events, **dict.fromkeys(("refs", "paths", "workflows"), _Patterns)}
_COLUMNS = Columns(Webhook, ("provider", *_CHANGED), types=_TYPES)
_CHANGES = Columns(Webhook, _CHANGED, types=_TYPES)
_INSIDE = _COLUMNS.inside


def _rows(user: User) -> "QuerySet[Webhook]":
    rows = Webhook.objects.reached_by(user).select_related("project", "owner").order_by("project", "name", "pk")
    return rows.prefetch_related("server_groups", answers.ASKED)


def _told(it: Webhook, user: User) -> dict[str, Any]:
    return _COLUMNS.told(
        it,
        project_id=it.project_id,
        answers=answers.told(it, user),
        address=f"{settings.DEPLOYER_URL}{it.address}" if may(user, Action.EDIT, it) else None,
        owner=it.owner.get_username() if it.owner else None,
        is_active=it.is_active,
        paused_reason=it.paused_reason,
    )


def _make(user: User, values: dict[str, Any]) -> Webhook:
    project = editable(user, values.pop("project_id"))
    return _kept(user, Webhook(project=project, owner=user, provider=values["provider"]), values)


def _edit(user: User, it: Webhook, values: dict[str, Any]) -> Webhook:
    return _kept(user, of_current_project(user, it), values)


def _kept(user: User, it: Webhook, values: dict[str, Any]) -> Webhook:
    boxes = answers.boxes_of(values, _INSIDE)
    outside = answers.outside_of(boxes, _INSIDE, it.project)
    found: Webhook = keep(lambda data: WebhookForm(data, instance=it, user=user), boxes, outside)
    return found


def _remove(user: User, it: Webhook) -> None:
    delete(of_current_project(user, it))


def _renew(user: User, it: Webhook, _values: dict[str, Any]) -> Webhook:
    by_hand.renew_secret(of_current_project(user, it))
    return it


def _pause(user: User, it: Webhook, _values: dict[str, Any]) -> Webhook:
    by_hand.pause_webhook(of_current_project(user, it), user)
    return it


def _resume(user: User, it: Webhook, _values: dict[str, Any]) -> Webhook:
    by_hand.resume_webhook(of_current_project(user, it))
    return it


def _take(user: User, it: Webhook, _values: dict[str, Any]) -> Webhook:
    by_hand.take_over(of_current_project(user, it), user)
    return it


def _test(user: User, it: Webhook, _values: dict[str, Any]) -> Delivery:
    of_current_project(user, it, Action.OPERATE)
    return by_hand.send_test(it, user)


_WHOLE: dict[str, Any] = {"project_id": (Id, ...)}
_SHOWN: dict[str, Any] = {
    "id": 1,
    "provider": "github",
    "name": "pushes",
    "events": ["push"],
    "refs": ["main", "release/*"],
    "paths": [],
    "workflows": [],
    "deployment_type": "full",
    "server_group_ids": [],
    "queue": "newest",
    "project_id": 1,
    "answers": {},
    "address": "https://deployer.example.com/hooks/mXa3…/",
    "owner": "ci",
    "is_active": True,
    "paused_reason": "",
}
_MORE: dict[str, Any] = {
    "project_id": (int, ...),
    **answers.TOLD,
    "address": (str | None, ...),
    "owner": (str | None, ...),
    "is_active": (bool, ...),
    "paused_reason": (str, ...),
}
_ABOUT = (
    "What a git server may launch, with the rights of its ``owner``. ``address``, which nobody guesses, is null for "
    "who may not edit it, and without the site's part where ``DEPLOYER_URL`` does not say it."
)
_SHAPE: type[Schema] = _COLUMNS.shape("WebhookShape", _ABOUT, shown=_SHOWN, **_MORE)
WEBHOOKS = Noun(
    path="webhooks",
    one="webhook",
    tag=TAG,
    about="The webhooks of projects. What their deliveries are signed with is told once: when it is made or renewed.",
    shape=_SHAPE,
    rows=_rows,
    told=_told,
    filters={
        "project_id": Filter(Id, "project"),
        "name": Filter(Name, "name"),
        "is_active": Filter(bool, "is_active"),
    },
    new=_COLUMNS.new(
        "WebhookInput",
        "A new webhook; the token's user owns it.",
        needed=("name", "provider"),
        **_WHOLE,
        **answers.TAKEN,
    ),
    make=_make,
    change=_CHANGES.change(
        "WebhookChange", "What is to be another in a webhook; its owner stays, and who sends.", **answers.TAKEN
    ),
    edit=_edit,
    remove=_remove,
    about_remove="Forget a webhook and its deliveries. What it has launched stays.",
    made=_COLUMNS.shape(
        "NewWebhookShape",
        f"{_ABOUT} ``secret`` is what deliveries are signed with; this is the only answer that has it.",
        shown={**_SHOWN, "secret": "kept by you alone"},
        **_MORE,
        secret=(str, ...),
    ),
    told_once=lambda it: {"secret": it.secret},
)
register(WEBHOOKS)
open_act(
    WEBHOOKS,
    "renew",
    _renew,
    "Give a webhook a new secret, which is told this once. The former one holds until the first delivery with the new "
    "one, or a day.",
    once=True,
)
open_act(WEBHOOKS, "pause", _pause, "Pause a webhook: it launches nothing until it is resumed.")
open_act(WEBHOOKS, "resume", _resume, "Let a webhook launch again.")
open_act(WEBHOOKS, "take", _take, "Have a webhook launch with the rights of the token's user.")

# --- deliveries ----------------------------------------------------------------------------------------

_DELIVERY = Columns(
    Delivery,
    (
        *("webhook", "project", "identifier", "event", "kind", "ref", "before", "after", "title", "pushers"),
        *("workflow", "size", "address", "received_at", "times", "is_test", "again_of"),
        *("status", "outcome", "reason", "deployment", "handled_at"),
    ),
    types={"pushers": list[str]},
)


def _again(user: User, it: Delivery, _values: dict[str, Any]) -> Delivery:
    of_current_project(user, it, Action.OPERATE)
    if it.may_be_sent_again:
        return by_hand.send_again(it, user)
    if not it.is_handled:
        transaction.on_commit(enqueue_deliveries)
    told = _("There is nothing in it that could be launched, or it is not handled yet.")
    raise RefusedError(409, told, field="delivery_id")


DELIVERIES = Noun(
    path="deliveries",
    one="delivery",
    tag=TAG,
    about="What was sent to webhooks with a valid signature, the newest first, and what became of it.",
    shape=_DELIVERY.shape(
        "DeliveryShape",
        "One delivery: what was read of it, what became of it, and why.",
        shown={
            "id": 1,
            "webhook_id": 1,
            "project_id": 1,
            "identifier": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
            "event": "push",
            "kind": "push",
            "ref": "main",
            "before": "9492849f",
            "after": "7cbef637",
            "title": "Count again",
            "pushers": ["ann@example.com"],
            "workflow": "",
            "size": 7324,
            "address": "192.0.2.7",
            "received_at": "2026-11-26T08:01:00.031000+00:00",
            "times": 1,
            "is_test": False,
            "again_of_id": None,
            "status": "handled",
            "outcome": "launched",
            "reason": "",
            "deployment_id": 17,
            "handled_at": "2026-11-26T08:01:01.120000+00:00",
            "sent_by": None,
        },
        sent_by=(str | None, ...),
    ),
    rows=lambda user: (
        Delivery.objects.reached_by(user).select_related("webhook__project", "project", "sent_by").order_by("-pk")
    ),
    told=lambda row, _user: _DELIVERY.told(row, sent_by=row.sent_by.get_username() if row.sent_by else None),
    filters={
        "webhook_id": Filter(Id, "webhook"),
        "project_id": Filter(Id, "project"),
        "status": Filter(value_of(Delivery.Status), "status"),
        "outcome": Filter(value_of(Delivery.Outcome), "outcome"),
        "deployment_id": Filter(Id, "deployment"),
    },
)
register(DELIVERIES)
open_act(
    DELIVERIES, "again", _again, "Send a delivery once more, as one of its own: it is judged anew.", tells=DELIVERIES
)
open_act(
    WEBHOOKS,
    "test",
    _test,
    "Find out what a webhook would launch: a delivery that launches nothing. Its outcome is told by its number.",
    tells=DELIVERIES,
)
