"""What a delivery says, read from the JSON of each kind of git server, strictly, into the same few values.

Whatever a sender writes is bounded and shown as text: a ref is the name of one, a commit a whole one, and what is not
so makes the delivery unreadable, which is said and launches nothing.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext as _

from deployer.models import Delivery, Webhook
from deployer.models.webhook import LONGEST_REF, LONGEST_TITLE
from people.visible import visible
from projects.validators import LONGEST_PATTERN, validate_ref

#: Addresses of one delivery.
_MOST_PUSHERS = 5
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH, _TAG = "refs/heads/", "refs/tags/"
_FORM = "application/x-www-form-urlencoded"

Kind = Delivery.Kind
Json = Mapping[str, Any]


class UnreadableError(Exception):
    """A payload that is none: a sentence."""


@dataclass(frozen=True)
class Reading:
    """What a delivery is about; empty where it does not say.

    ``ref`` is the short name of a branch, or of a tag where ``kind`` is that or ``is_tag`` says so. ``before`` and
    ``after`` are whole commits, all zeros where there is none. ``why_not`` says why it is not about anything that
    could be launched.
    """

    event: str
    kind: Delivery.Kind = Kind.OTHER
    ref: str = ""
    before: str = ""
    after: str = ""
    title: str = ""
    pushers: tuple[str, ...] = ()
    workflow: str = ""
    why_not: str = ""


def event_of(provider: str, headers: Mapping[str, str]) -> str:
    """What the sender calls the event, as it may be kept."""
    names = _EVENTS[Webhook.Provider(provider)]
    return visible(next((headers[name] for name in names if name in headers), ""), 60)


def number_of(provider: str, headers: Mapping[str, str]) -> str:
    """The sender's own number of the delivery, which stays when it is sent again; empty where it names none."""
    names = _NUMBERS[Webhook.Provider(provider)]
    return visible(next((headers[name] for name in names if headers.get(name)), ""), 100)


def read(provider: str, event: str, content_type: str, body: bytes) -> Reading:
    """What ``body`` says. Raises `UnreadableError`."""
    return _READERS[Webhook.Provider(provider)](event, _parsed(content_type, body))


def _parsed(content_type: str, body: bytes) -> Json:
    if content_type.partition(";")[0].strip().lower() == _FORM:  # what GitHub sends unless it is told otherwise
        try:
            fields = dict(parse_qsl(body.decode("ascii"), max_num_fields=10))
        except ValueError:
            _refuse()
        body = fields.get("payload", "").encode(errors="replace")
    try:
        found = json.loads(body.decode() or "{}", parse_constant=_no_number)
    except (ValueError, RecursionError):
        _refuse()
    if not isinstance(found, dict):
        _refuse()
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _refuse(why: str = "") -> NoReturn:
    raise UnreadableError(why or _("What was sent is not the JSON of this kind of sender."))


# --- values --------------------------------------------------------------------------------------------


def _at(found: Any, *names: str) -> Any:
    """The value at a path of keys; nothing where one of them is not there."""
    for name in names:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def _text(value: object, most: int) -> str:
    return visible(" ".join(value[: 4 * most].split()), most) if isinstance(value, str) else ""


def _title(value: object) -> str:
    """The first line of a commit's message."""
    return _text(value.strip().partition("\n")[0], LONGEST_TITLE) if isinstance(value, str) else ""


def _commit(value: object, *, needed: bool = True) -> str:
    if not value and not needed:
        return ""
    if not isinstance(value, str) or not _COMMIT.fullmatch(value.lower()):
        _refuse(_("It names no whole commit."))
    return value.lower()


def _name(value: object) -> str:
    """The short name of a branch or a tag."""
    if not isinstance(value, str) or len(value) > LONGEST_REF:
        _refuse(_("It names no branch and no tag."))
    try:
        value.encode()
        validate_ref(value)
    except (UnicodeEncodeError, ValidationError):
        _refuse(_("It names no branch and no tag."))
    return value


def _ref(value: object) -> tuple[Delivery.Kind, str]:
    """Whether ``value`` is a branch or a tag, and its short name."""
    if not isinstance(value, str):
        _refuse(_("It names no branch and no tag."))
    if value.startswith(_TAG):
        return Kind.TAG, _name(value.removeprefix(_TAG))
    return Kind.PUSH, _name(value.removeprefix(_BRANCH))


def _addresses(*values: object) -> tuple[str, ...]:
    """Those of ``values`` that are e-mail addresses, in lower case, each once."""
    found = []
    for value in values:
        if isinstance(value, str) and len(value) <= 254:
            try:
                validate_email(value)
            except ValidationError:
                continue
            found.append(value.lower())
    return tuple(dict.fromkeys(found))[:_MOST_PUSHERS]


# --- senders -------------------------------------------------------------------------------------------


def _github(event: str, payload: Json) -> Reading:
    if event == "ping":
        return Reading(event, Kind.PING)
    if event == "push":
        return _push(event, payload, _at(payload, "head_commit"))
    if event == "delete":
        is_tag = _at(payload, "ref_type") == "tag"
        return Reading(event, Kind.TAG if is_tag else Kind.PUSH, _name(_at(payload, "ref")), after="0" * 40)
    if event == "workflow_run":
        return _workflow_run(event, payload)
    return Reading(event)


def _gitea(event: str, payload: Json) -> Reading:
    if event == "push":
        head = _at(payload, "head_commit")
        commits = _at(payload, "commits")
        first = commits[0] if isinstance(commits, list) and commits else None
        return _push(event, payload, head or first)
    if event.startswith("action_run_"):
        return _forgejo_run(event, payload)
    return _github(event, payload)


def _push(event: str, payload: Json, head: object) -> Reading:
    kind, ref = _ref(_at(payload, "ref"))
    pushers = _addresses(_at(payload, "pusher", "email")) or _addresses(_at(head, "author", "email"))
    return Reading(
        event,
        kind,
        ref,
        _commit(_at(payload, "before"), needed=False),
        _commit(_at(payload, "after")),
        _title(_at(head, "message")),
        pushers,
    )


def _workflow_run(event: str, payload: Json) -> Reading:
    """A run of GitHub's or Gitea's actions: one that was begun by a push to this repository and has succeeded."""
    run = _at(payload, "workflow_run")
    workflow = _text(_at(run, "name"), LONGEST_PATTERN) or _text(_at(payload, "workflow", "name"), LONGEST_PATTERN)
    own, theirs = _at(payload, "repository", "full_name"), _at(run, "head_repository", "full_name")
    why_not = ""
    if _at(payload, "action") != "completed":
        why_not = _("The workflow has not ended yet.")
    elif _at(run, "conclusion") != "success":
        why_not = _("The workflow has not succeeded: %s") % (_text(_at(run, "conclusion"), 40) or "–")
    elif isinstance(theirs, str) and theirs != own:
        why_not = _("The workflow ran for a commit of another repository: %s") % _text(theirs, 100)
    if why_not:
        return Reading(event, Kind.SUCCESS, workflow=workflow, why_not=why_not)
    head = _at(run, "head_commit")
    return Reading(
        event,
        Kind.SUCCESS,
        _name(_at(run, "head_branch")),
        after=_commit(_at(run, "head_sha")),
        title=_title(_at(head, "message")) or _title(_at(run, "display_title")),
        pushers=_addresses(_at(head, "author", "email"), _at(head, "committer", "email")),
        workflow=workflow,
    )


def _forgejo_run(event: str, payload: Json) -> Reading:
    run = _at(payload, "run")
    workflow = _text(_at(run, "workflow_id"), LONGEST_PATTERN)
    if event != "action_run_success":
        return Reading(event, Kind.SUCCESS, workflow=workflow, why_not=_("The workflow has not succeeded."))
    return Reading(
        event,
        Kind.SUCCESS,
        _name(_at(run, "prettyref")),
        after=_commit(_at(run, "commit_sha")),
        title=_title(_at(run, "title")),
        pushers=_addresses(_at(run, "trigger_user", "email")),
        workflow=workflow,
    )


def _gitlab(event: str, payload: Json) -> Reading:
    sort = _at(payload, "object_kind")
    if sort in ("push", "tag_push"):
        commits = _at(payload, "commits")
        heads = [each for each in commits if isinstance(each, dict)] if isinstance(commits, list) else []
        after = _commit(_at(payload, "after"))
        head = next((each for each in heads if each.get("id") == after), heads[-1] if heads else None)
        kind, ref = _ref(_at(payload, "ref"))
        pushers = _addresses(_at(payload, "user_email")) or _addresses(_at(head, "author", "email"))
        before = _commit(_at(payload, "before"), needed=False)
        return Reading(event, kind, ref, before, after, _title(_at(head, "message")), pushers)
    if sort == "pipeline":
        return _pipeline(event, payload)
    return Reading(event)


def _pipeline(event: str, payload: Json) -> Reading:
    run = _at(payload, "object_attributes")
    workflow = _text(_at(run, "name"), LONGEST_PATTERN)
    why_not = ""
    if _at(run, "status") != "success":
        why_not = _("The pipeline has not succeeded: %s") % (_text(_at(run, "status"), 40) or "–")
    elif _at(run, "source") in ("merge_request_event", "external_pull_request_event"):
        why_not = _("The pipeline ran for a merge request.")
    if why_not:
        return Reading(event, Kind.SUCCESS, workflow=workflow, why_not=why_not)
    return Reading(
        event,
        Kind.SUCCESS,
        _name(_at(run, "ref")),
        after=_commit(_at(run, "sha")),
        title=_title(_at(payload, "commit", "message")),
        pushers=_addresses(_at(payload, "user", "email"), _at(payload, "commit", "author", "email")),
        workflow=workflow,
    )


#: What anything else may say; all of it may be left out.
_OWN_FIELDS = frozenset({"event", "ref", "commit", "before", "title", "pushed_by", "workflow"})


def _generic(_event: str, payload: Json) -> Reading:
    """Our own form: see docs/webhooks.md."""
    if unknown := [name for name in payload if name not in _OWN_FIELDS]:
        words = {"name": visible(unknown[0], 60), "known": ", ".join(sorted(_OWN_FIELDS))}
        _refuse(_("There is no field “%(name)s”: it may have %(known)s.") % words)
    event = payload.get("event", "push")
    if event == "ping":
        return Reading(event, Kind.PING)
    if event not in ("push", "success"):
        _refuse(_("“event” is push, success or ping."))
    kind, ref = _ref(payload["ref"]) if payload.get("ref") else (Kind.PUSH, "")
    pushed = payload.get("pushed_by", [])
    return Reading(
        event,
        Kind.SUCCESS if event == "success" else kind,
        ref,
        _commit(payload.get("before"), needed=False),
        _commit(payload.get("commit"), needed=False),
        _title(payload.get("title")),
        _addresses(*(pushed if isinstance(pushed, list) else [pushed])),
        _text(payload.get("workflow"), LONGEST_PATTERN),
    )


_READERS: dict[Webhook.Provider, Callable[[str, Json], Reading]] = {
    Webhook.Provider.GITHUB: _github,
    Webhook.Provider.GITLAB: _gitlab,
    Webhook.Provider.GITEA: _gitea,
    Webhook.Provider.GENERIC: _generic,
}
_EVENTS: dict[Webhook.Provider, tuple[str, ...]] = {
    Webhook.Provider.GITHUB: ("X-GitHub-Event",),
    Webhook.Provider.GITLAB: ("X-Gitlab-Event",),
    Webhook.Provider.GITEA: ("X-Gitea-Event", "X-Forgejo-Event"),
    Webhook.Provider.GENERIC: (),
}
_NUMBERS: dict[Webhook.Provider, tuple[str, ...]] = {
    Webhook.Provider.GITHUB: ("X-GitHub-Delivery",),
    Webhook.Provider.GITLAB: ("Idempotency-Key", "webhook-id", "X-Gitlab-Event-UUID"),
    Webhook.Provider.GITEA: ("X-Gitea-Delivery", "X-Forgejo-Delivery"),
    Webhook.Provider.GENERIC: ("Idempotency-Key",),
}
