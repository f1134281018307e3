"""Sessions: which browsers somebody is signed in with, and their end."""

import re
import time
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session as Stored
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from people.models import Session, User
from people.origin import client_address
from people.writes import if_nobody_else_writes

#: The last use of a session is written down at most this often, in seconds.
NOTED_EVERY = 300.0
#: Sessions that this process remembers to have written down.
_MOST = 10_000
_noted: dict[str, float] = {}


def note(request: HttpRequest, user: User) -> None:
    """Write down that the session of ``request`` is used, if that was not done lately; no request waits for it."""
    key = request.session.session_key
    now = time.monotonic()
    if key is None or now - _noted.get(key, -NOTED_EVERY) < NOTED_EVERY:
        return
    agent = re.sub(r"[^\x20-\x7e]", "", str(request.META.get("HTTP_USER_AGENT", "")))[:300]
    values = {"agent": agent, "address": client_address(request)[:45], "last_used_at": timezone.now()}
    with if_nobody_else_writes():
        if not Session.objects.filter(session_id=key).update(**values):
            Session.objects.bulk_create([Session(session_id=key, user=user, **values)], ignore_conflicts=True)
        if len(_noted) >= _MOST:
            _noted.clear()
        _noted[key] = now


def of(user: User) -> QuerySet[Session]:
    """The sessions that somebody has, the last used first."""
    return Session.objects.filter(user=user, session__expire_date__gt=timezone.now())


def end(session: Session) -> None:
    """Sign that browser out."""
    Stored.objects.filter(pk=session.session_id).delete()


def end_all(user: User, but: str | None = None) -> int:
    """Sign somebody out everywhere, or everywhere but in the session ``but``; gives how many sessions there were.

    Sessions of a version that did not note them are found by what is in them.
    """
    keys = [*Session.objects.filter(user=user).exclude(session=but).values_list("session_id", flat=True)]
    unknown = Stored.objects.filter(known=None, expire_date__gt=timezone.now()).exclude(pk=but)
    keys += [row.pk for row in unknown.iterator() if row.get_decoded().get(SESSION_KEY) == str(user.pk)]
    Stored.objects.filter(pk__in=keys).delete()
    return len(keys)


def _begin(request: HttpRequest | None = None, user: User | None = None, **_kwargs: Any) -> None:
    if request is not None and user is not None:
        note(request, user)


user_logged_in.connect(_begin, dispatch_uid="people.sessions")
