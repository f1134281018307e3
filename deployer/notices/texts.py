"""What a notice says: subject and lines, in the language of its channel, made of its frozen facts alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, override

from deployer.host.addresses import site_address
from deployer.models import Deployment, Event, Notice, TrainRun
from deployer.notices import events
from people.visible import visible

#: Characters of a subject and of a line, and notices that one message lists.
LONGEST_SUBJECT, LONGEST_LINE, MOST_LISTED = 180, 600, 30
#: Servers that a text names.
_NAMED = 8

_SUBJECTS = {
    Event.LAUNCHED: gettext_lazy("%(project)s (%(environment)s): #%(number)s was launched"),
    Event.WAITING: gettext_lazy("%(project)s (%(environment)s): #%(number)s waits for approval"),
    Event.PAUSED: gettext_lazy("%(project)s (%(environment)s): #%(number)s is paused and waits for somebody"),
    Event.SUCCEEDED: gettext_lazy("%(project)s (%(environment)s): #%(number)s succeeded"),
    Event.RECOVERED: gettext_lazy("%(project)s (%(environment)s): back to good with #%(number)s"),
    Event.FAILED: gettext_lazy("%(project)s (%(environment)s): #%(number)s failed"),
    Event.UNCHANGED: gettext_lazy("%(project)s (%(environment)s): #%(number)s changed nothing, the old process runs"),
    Event.ROLLED_BACK: gettext_lazy("%(project)s (%(environment)s): #%(number)s was rolled back"),
    Event.INTERRUPTED: gettext_lazy("%(project)s (%(environment)s): #%(number)s was interrupted"),
    Event.CANCELLED: gettext_lazy("%(project)s (%(environment)s): #%(number)s was cancelled"),
    Event.EXPIRED: gettext_lazy("%(project)s (%(environment)s): #%(number)s expired"),
    Event.HOST_KEY: gettext_lazy("%(name)s shows another host key than the pinned one"),
    Event.DRIFT: gettext_lazy("%(project)s (%(environment)s): %(name)s is not as it was left"),
    Event.SCHEDULE_MISSED: gettext_lazy("%(project)s (%(environment)s): the schedule “%(name)s” could not run"),
    Event.TRIGGER_PAUSED: gettext_lazy("%(project)s (%(environment)s): “%(name)s” was paused"),
    Event.TEST: gettext_lazy("A test from deployer"),
}
_OF_TRAIN = {
    Event.WAITING: gettext_lazy("Train “%(train)s”: #%(number)s waits for approval"),
    Event.PAUSED: gettext_lazy("Train “%(train)s”: #%(number)s is paused and waits for somebody"),
    Event.SUCCEEDED: gettext_lazy("Train “%(train)s”: #%(number)s succeeded"),
    Event.RECOVERED: gettext_lazy("Train “%(train)s”: back to good with #%(number)s"),
    Event.FAILED: gettext_lazy("Train “%(train)s”: #%(number)s failed"),
    Event.ROLLED_BACK: gettext_lazy("Train “%(train)s”: #%(number)s was rolled back"),
    Event.CANCELLED: gettext_lazy("Train “%(train)s”: #%(number)s was cancelled"),
    Event.EXPIRED: gettext_lazy("Train “%(train)s”: #%(number)s expired"),
}
_HALTED = gettext_lazy("Train “%(train)s”: #%(number)s is halted and waits for somebody")
_ROLLBACK = gettext_lazy("%(project)s (%(environment)s): #%(number)s put back what #%(rollback_of)s had replaced")
_ASKS = gettext_lazy("%(project)s (%(environment)s): #%(number)s met failures and asks how to go on")


@dataclass(frozen=True)
class Message:
    """What is sent. ``number`` identifies it, the second time too; ``lines`` are without markup, ``facts`` of each."""

    number: str
    event: Event
    subject: str
    lines: tuple[str, ...]
    link: str
    facts: tuple[Mapping[str, Any], ...]
    is_bad: bool
    is_again: bool = False

    @property
    def text(self) -> str:
        """Its lines and its link."""
        return "\n".join(filter(None, [*self.lines, self.link]))


def message_of(notices: Sequence[Notice], language: str, mask: Callable[[str], str]) -> Message:
    """One message of what one receiver is told, in ``language``; ``mask`` takes secrets out of every text."""
    with override(language):
        told = [_told(notice.event, notice.facts) for notice in notices]
        first = notices[0]
        if len(notices) == 1:
            subject, lines = told[0]
            path = str(first.facts.get("path", ""))
        else:
            count = len(notices)
            subject = ngettext("%d notice", "%d notices", count) % count
            lines = [subject for subject, _lines in told[:MOST_LISTED]]
            if count > MOST_LISTED:
                lines.append(_("and %d more") % (count - MOST_LISTED))
            path = "/"
        is_again = any(notice.was_cut for notice in notices)
        if is_again:
            lines = [*lines, _("Sent once more: it is not known whether it has arrived before.")]
        return Message(
            number=first.message_id,
            event=Event(first.event),
            subject=visible(mask(subject), LONGEST_SUBJECT),
            lines=tuple(visible(mask(line), LONGEST_LINE) for line in lines),
            link=site_address(path) if path.startswith("/") else "",
            facts=tuple(_masked(notice, mask) for notice in notices),
            is_bad=any(Event(notice.event) in events.BAD for notice in notices),
            is_again=is_again,
        )


def _masked(notice: Notice, mask: Callable[[str], str]) -> dict[str, Any]:
    """The facts of a notice, without secrets, as another program reads them."""
    return {"event": notice.event, "at": notice.created_at.isoformat(timespec="seconds")} | {
        name: _without(value, mask) for name, value in notice.facts.items() if name not in {"path", "went_well"}
    }


def _without(value: Any, mask: Callable[[str], str]) -> Any:
    match value:
        case str():
            return mask(value)
        case dict():
            return {name: _without(each, mask) for name, each in value.items()}
        case list():
            return [_without(each, mask) for each in value]
    return value


def _told(event: str, facts: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Subject and lines of one notice."""
    words = {"project": "", "number": "", "name": "", "rollback_of": ""} | dict(facts)
    if facts.get("train"):
        of_train = _HALTED if facts.get("status") == TrainRun.Status.HALTED else _OF_TRAIN[Event(event)]
        return str(of_train) % words, [line for line in (_by(facts), _stops(facts)) if line]
    words["environment"] = events.environment_label(str(facts.get("environment", "")))
    template = _SUBJECTS[Event(event)]
    if event == Event.ROLLED_BACK and facts.get("went_well"):
        template = _ROLLBACK
    elif event == Event.PAUSED and facts.get("asks"):
        template = _ASKS
    return str(template) % words, [*_lines(Event(event), facts)]


def _lines(event: Event, facts: Mapping[str, Any]) -> list[str]:
    if event == Event.TEST:
        return [_("%(who)s wanted to see whether this channel works. It does.") % {"who": facts.get("who", "")}]
    lines = [_what(facts), _who(facts)]
    servers = facts.get("servers") or []
    if servers:
        lines.append(_count(facts))
        lines += [f"· {it['name']}: {it['error']}" if it["error"] else f"· {it['name']}" for it in servers[:_NAMED]]
        if (more := int(facts.get("failed", 0)) - _NAMED) > 0:
            lines.append(_("and %d more") % more)
    elif reason := facts.get("reason"):
        lines.append(str(reason))
    if event == Event.HOST_KEY:
        lines.append(_("It shows %s.") % facts.get("key", ""))
        lines.append(
            _(
                "Somebody may be intercepting the connection. If the machine was reinstalled, pin its new key on "
                "its page."
            )
        )
    return [line for line in lines if line]


def _what(facts: Mapping[str, Any]) -> str:
    if not facts.get("type"):
        return ""
    kind = str(Deployment.Type(facts["type"]).label)
    if release := facts.get("release"):
        return _("%(kind)s, release %(release)s") % {"kind": kind, "release": release}
    words = {"kind": kind, "branch": facts.get("branch", ""), "commit": str(facts.get("commit", ""))[:12]}
    words["subject"] = facts.get("subject", "")
    if words["commit"]:
        return _("%(kind)s, branch %(branch)s, commit %(commit)s: %(subject)s") % words
    return _("%(kind)s, branch %(branch)s") % words if words["branch"] else kind


def _who(facts: Mapping[str, Any]) -> str:
    return _by(facts) if facts.get("type") else ""


def _by(facts: Mapping[str, Any]) -> str:
    return _("Launched by %s.") % facts["who"] if facts.get("who") else ""


def _stops(facts: Mapping[str, Any]) -> str:
    done, whole = int(facts.get("done", 0)), int(facts.get("stops", 0))
    return ngettext("%(done)d of %(all)d stop is done.", "%(done)d of %(all)d stops are done.", whole) % {
        "done": done,
        "all": whole,
    }


def _count(facts: Mapping[str, Any]) -> str:
    failed, whole = int(facts.get("failed", 0)), int(facts.get("all", 0))
    if not whole:
        return ""
    return ngettext("%(failed)d of %(all)d server failed:", "%(failed)d of %(all)d servers failed:", whole) % {
        "failed": failed,
        "all": whole,
    }
