"""Sends one message to one receiver, and writes what became of it: sent, tried again later, given up, or unknown."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.log.masking import Masker
from deployer.models import Event, Notice, TrainRun
from deployer.notices import events
from deployer.notices.guard import RefusedAddressError
from deployer.notices.kinds.every import KINDS
from deployer.notices.kinds.kind import Answer, Net, Outcome, Parcel
from deployer.notices.kinds.mail import send_mail
from deployer.notices.net import CutError, NotSentError
from deployer.notices.texts import message_of
from deployer.plan import secrets_of
from people.record import Act, actor, record
from projects.models import Project
from servers.fields import DecryptionError

logger = logging.getLogger(__name__)

_Status = Notice.Status
#: Before each further try.
PAUSES = tuple(
    timedelta(seconds=seconds) for seconds in (15, 60, 5 * 60, 15 * 60, 60 * 60, 3 * 60 * 60)
)  # about four hours and a half


def deliver(notices: Sequence[Notice], net: Net, now: datetime) -> Answer:
    """Send what was taken as one message, and write down what became of it."""
    answer = _send(notices, net, now)
    insist(lambda: settle(notices, answer, now))
    return answer


def _send(notices: Sequence[Notice], net: Net, now: datetime) -> Answer:
    first = notices[0]
    if why := _is_void(first):
        return Answer(Outcome.NOTHING, why)
    language = (first.channel.language if first.channel else first.user.language if first.user else "") or ""
    message = message_of(notices, language or settings.LANGUAGE_CODE, Masker(_secrets(notices)))
    parcel = Parcel(message, now, first.deployment, _reference(first))
    try:
        if first.channel is not None:
            return KINDS[first.channel.kind].send(first.channel.address or {}, parcel, net)
        return send_mail([first.user.email] if first.user else [], parcel)
    except RefusedAddressError as error:
        return Answer(Outcome.REFUSED, str(error))
    except NotSentError as error:
        return Answer(Outcome.LATER, str(error))
    except CutError as error:
        return Answer(Outcome.UNKNOWN, str(error))
    except (DecryptionError, KeyError) as error:
        return Answer(
            Outcome.REFUSED, str(error) if isinstance(error, DecryptionError) else _("The address lacks a part.")
        )


def _is_void(notice: Notice) -> str:
    """Why a notice has nothing to tell any more; empty where it has."""
    if notice.unless is not None and notice.unless.status in {_Status.SENT, _Status.UNKNOWN}:
        return _("A channel has told it.")
    if notice.user is not None and not (notice.user.is_active and notice.user.email):
        return _("Nobody reads mail there any more.")
    if notice.tries > 1 and notice.event in events.URGENT and not _waits(notice):
        return _("Nobody is waited for any more.")
    return ""


def _waits(notice: Notice) -> bool:
    """Whether a person is still waited for."""
    if notice.facts.get("train"):
        return TrainRun.objects.active().filter(pk=notice.facts.get("number"), status__in=events.TRAIN_WAITS).exists()
    it = notice.deployment
    return it is not None and it.is_active and (it.asks_approval or it.is_paused)


def _secrets(notices: Sequence[Notice]) -> list[str]:
    """What no message may show: the secrets of the projects that it is about."""
    projects = Project.objects.filter(pk__in={notice.project for notice in notices if notice.project})
    return [secret for project in projects for secret in secrets_of(project)]


def _reference(notice: Notice) -> str:
    """What the receiver has called this deployment before."""
    if notice.channel is None or notice.deployment is None:
        return ""
    rows = Notice.objects.filter(channel=notice.channel, deployment=notice.deployment).exclude(reference="")
    return rows.values_list("reference", flat=True).first() or ""


def settle(notices: Sequence[Notice], answer: Answer, now: datetime) -> bool:
    """Write what became of a message. Says whether it was still this sender's."""
    first, channel = notices[0], notices[0].channel
    reference = {"reference": answer.reference[:200]} if answer.reference else {}
    with transaction.atomic():
        match answer.outcome:
            case Outcome.SENT:
                won = first.finish(_Status.SENT, now, answer.told, **reference)
            case Outcome.NOTHING:
                return first.finish(_Status.DROPPED, now, answer.told)
            case Outcome.UNKNOWN:
                won = settle_unknown(notices, now, answer.told)
            case Outcome.LATER if first.tries <= len(PAUSES) and first.event != Event.TEST:
                pause = max(PAUSES[first.tries - 1], timedelta(seconds=answer.wait))
                # It has not arrived: what it tells may come with others the next time.
                again = reference | ({} if first.was_cut else {"message_id": ""})
                won = first.finish(_Status.WAITING, now, answer.told, next_at=now + pause, **again)
                if won and answer.wait and channel is not None:
                    others = Notice.objects.open().filter(channel=channel, next_at__lt=now + pause)
                    others.update(next_at=now + pause)
            case _:
                won = first.finish(_Status.FAILED, now, answer.told, **reference)
        if won and channel is not None:
            ok = answer.outcome is Outcome.SENT
            is_over = answer.outcome is not Outcome.LATER or first.tries > len(PAUSES)
            if channel.note(now, answer.told, ok=ok, is_over=is_over and first.event != Event.TEST):
                _pause(notices)
    return won


def _pause(notices: Sequence[Notice]) -> None:
    """Stop a channel to which nothing comes through."""
    channel = notices[0].channel
    if channel is None:
        return
    channel.refresh_from_db(fields=["last_answer", "failures"])
    words = {"count": channel.failures, "answer": channel.last_answer}
    reason = _("%(count)d messages in a row were not delivered: %(answer)s") % words
    if channel.pause(reason):
        record(actor(), Act.CHANGED, channel, {"is_active": True}, {"is_active": False, "paused_reason": reason})
        logger.warning("channel %s is paused: %s", channel.pk, reason)


def settle_unknown(notices: Sequence[Notice], now: datetime, told: str) -> bool:
    """Of a message that may have arrived: once more under its number where it matters, else it stays unknown."""
    first = notices[0]
    matters = any(
        notice.event in events.BAD or (notice.event in events.URGENT and _waits(notice)) for notice in notices
    )
    again = matters and not first.was_cut
    return first.finish(_Status.UNKNOWN, now, told, next_at=now + PAUSES[0] if again else None, was_cut=True)


def settle_cut(now: datetime) -> int:
    """Settle what was cut between the request and its answer, because whoever sent it is gone; gives how many."""
    rows = Notice.objects.cut(now).select_related("channel", "user", "deployment").defer("deployment__plan")
    by_claim: dict[str, list[Notice]] = {}
    for notice in rows:
        by_claim.setdefault(notice.claim, []).append(notice)
    told = _("It was cut off: whether it has arrived is not known.")
    return sum(settle_unknown(notices, now, told) for notices in by_claim.values())
