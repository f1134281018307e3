"""The part of a delivery that its sender waits for: size > signature > number; it is written down and answered.

Nothing here asks a repository or a server. Whatever has a valid signature is answered 202, also what is not launched,
with the reason: senders switch a webhook off that answers otherwise. 4xx is for a wrong signature, for what is too
large, and for too many. What needs a look into the repository is left to a worker (`deployer.triggers.judging`).
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any, Protocol

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.models import Delivery, Webhook
from deployer.queue.sending import enqueue_deliveries
from deployer.triggers.patterns import fits, ref_fits
from deployer.triggers.payloads import Reading, UnreadableError, event_of, number_of, read
from deployer.triggers.rate import Rate
from deployer.triggers.signatures import signed_with
from servers.fields import DecryptionError
from servers.sentences import as_stored

#: Bytes of a delivery: GitHub caps its own at this; others send far less.
LARGEST = {
    Webhook.Provider.GITHUB: 25 << 20,
    Webhook.Provider.GITLAB: 10 << 20,
    Webhook.Provider.GITEA: 10 << 20,
    Webhook.Provider.GENERIC: 1 << 20,
}
#: What is larger than this is taken apart one at a time: as objects it takes many times its size.
_LARGE = 1 << 20
_one_large = Lock()
_PIECE = 64 * 1024

#: Deliveries of one webhook, and from one address to all of them; a sender that pushes a thousand branches is no flood.
OF_WEBHOOK, OF_ADDRESS = Rate(2_000, 20), Rate(5_000, 50)
#: Wrong signatures for one webhook from one address, and keys that there are none of from one address.
WRONG, UNKNOWN = Rate(30, 0.1), Rate(60, 1)


class Body(Protocol):
    """The body of a request, as the web server has received it."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Sent:
    """A request as it came: its headers, where from, how long it says that it is, and its body, which is read last."""

    headers: Mapping[str, str]
    address: str
    length: int
    body: Body
    content_type: str = ""


@dataclass(frozen=True)
class Reply:
    """The answer: a status of HTTP, and a JSON object."""

    status: int
    said: dict[str, Any] = field(default_factory=dict)


def find(key: str) -> Webhook | None:
    """The webhook of an address."""
    return Webhook.objects.select_related("project").filter(key=key).first() if len(key) <= 64 else None


def largest_body(key: str) -> int:
    """The bytes that may be sent to an address, by what it is alone; 0 where it is none, or has been sent too much."""
    webhook = find(key)
    if webhook is None or not OF_WEBHOOK.has_room(webhook.key):
        return 0
    return LARGEST[Webhook.Provider(webhook.provider)]


def receive(key: str, sent: Sent, now: datetime | None = None) -> Reply | None:
    """Take a delivery; nothing where there is no such address."""
    webhook = find(key)
    if webhook is None:
        return None if UNKNOWN.take(sent.address) else _too_many()
    wrong = f"{webhook.pk} {sent.address}"
    if not (OF_ADDRESS.take(sent.address) and OF_WEBHOOK.take(webhook.key) and WRONG.has_room(wrong)):
        return _too_many()
    largest = LARGEST[Webhook.Provider(webhook.provider)]
    body = _body(sent, largest)
    if body is None:
        return Reply(413, _said(_("The delivery is too large: at most %d KB are accepted here.") % (largest >> 10)))
    moment = now or timezone.now()
    try:
        known = webhook.secrets_now(moment)
    except DecryptionError:
        return Reply(503, _said(_("The secret of this webhook cannot be read here.")))
    secret = signed_with(webhook.provider, sent.headers, body, known)
    if not secret:
        WRONG.take(wrong)
        return Reply(401, _said(_("The signature is missing, or it is not that of the secret of this webhook.")))
    if secret == webhook.secret:
        webhook.forget_former()
    with as_stored():
        return _taken(webhook, sent, body, moment)


def first_look(webhook: Webhook, reading: "Reading | Delivery") -> str:
    """Why nothing is launched, as far as no repository is needed to know; empty if it may be.

    In this order: event, deletion, ref.
    """
    kind = reading.kind
    if kind == Delivery.Kind.PING:
        return _("A ping: the address and the secret are right.")
    if kind not in webhook.events:
        known = ", ".join(webhook.event_labels)
        return _("This webhook launches after other events: %s") % known
    if reading.after and not reading.after.strip("0"):
        return _("The branch or the tag was deleted.")
    ref = reading.ref or webhook.project.default_branch
    if not ref_fits(webhook, kind, ref):
        return _("This webhook is for other branches and tags than %s.") % ref
    if kind == Delivery.Kind.SUCCESS and webhook.workflows and not fits(reading.workflow, webhook.workflows):
        return _("This webhook is for other workflows than “%s”.") % reading.workflow
    return ""


def refusal_of(webhook: Webhook) -> str:
    """Why a webhook launches nothing now, whatever is sent to it; empty if it does."""
    if why := webhook.project.archived_sentence:
        return why
    if webhook.is_active:
        return ""
    return _("The webhook is paused: %s") % (webhook.paused_reason or _("somebody has paused it"))


def said_of(delivery: Delivery) -> dict[str, Any]:
    """What is answered about a delivery."""
    return {
        "delivery": delivery.pk,
        "status": delivery.status,
        "outcome": delivery.outcome,
        "reason": delivery.reason,
        "deployment": delivery.deployment_id,
    }


def _said(reason: str) -> dict[str, Any]:
    return {"delivery": None, "status": "", "outcome": "", "reason": reason, "deployment": None}


def _too_many() -> Reply:
    return Reply(429, _said(_("Too many requests: wait a minute.")))


def _body(sent: Sent, largest: int) -> bytes | None:
    """The whole body; nothing where it is larger than that, or ends before it is as long as it says."""
    if sent.length > largest:
        return None
    found = bytearray()
    while len(found) < sent.length:
        piece = sent.body.read(min(_PIECE, sent.length - len(found)))
        if not piece:
            break
        found += piece
    return bytes(found)


def _taken(webhook: Webhook, sent: Sent, body: bytes, now: datetime) -> Reply:
    """Write down a delivery whose signature is right, once by its number, and answer it."""
    number = number_of(webhook.provider, sent.headers)
    if number and (known := _known(webhook, number)) is not None:
        return _again(known, now)
    event = event_of(webhook.provider, sent.headers)
    try:
        reading = _read(webhook, event, sent.content_type, body)
        why_not = reading.why_not or first_look(webhook, reading)
    except UnreadableError as error:
        reading, why_not = Reading(event), str(error)
    refusal = "" if why_not else refusal_of(webhook)
    values = _values(webhook, reading, len(body), sent.address)
    if why_not or refusal:
        outcome = Delivery.Outcome.IGNORED if why_not else Delivery.Outcome.REFUSED
        values |= {"status": Delivery.Status.HANDLED, "outcome": outcome, "reason": why_not or refusal}
        values |= {"handled_at": now}
    try:
        with transaction.atomic():
            delivery = Delivery.objects.create(
                **values, identifier=number or f"own-{secrets.token_hex(16)}", received_at=now
            )
    except IntegrityError:
        known = _known(webhook, number)  # it came twice at the same moment
        return _again(known, now) if known is not None else Reply(404, _said(_("The webhook was deleted.")))
    return _answered(delivery)


def _read(webhook: Webhook, event: str, content_type: str, body: bytes) -> Reading:
    if len(body) <= _LARGE:
        return read(webhook.provider, event, content_type, body)
    with _one_large:
        return read(webhook.provider, event, content_type, body)


def _values(webhook: Webhook, reading: Reading, size: int, address: str) -> dict[str, Any]:
    return {
        "webhook": webhook,
        "project": webhook.project,
        "event": reading.event,
        "kind": reading.kind,
        "ref": reading.ref,
        "before": reading.before,
        "after": reading.after,
        "title": reading.title,
        "pushers": [*reading.pushers],
        "workflow": reading.workflow,
        "size": size,
        "address": address[:64],
    }


def _known(webhook: Webhook, number: str) -> Delivery | None:
    return Delivery.objects.filter(webhook=webhook, identifier=number).first()


def _again(delivery: Delivery, now: datetime) -> Reply:
    """One that became a launch is answered with it; one that did not is judged anew; one that waits goes on waiting."""
    delivery.count_once_more()
    if delivery.receive_again(now):
        delivery.refresh_from_db()
    return _answered(delivery)


def _answered(delivery: Delivery) -> Reply:
    if not delivery.is_handled:
        transaction.on_commit(enqueue_deliveries)
    return Reply(202, said_of(delivery))
