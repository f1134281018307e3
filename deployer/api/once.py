"""Requests that may come twice and are done once: an idempotency key names each, and gets its first answer again.

What was refused did nothing, and is not kept: with the same key it may be sent again. What has ended by a mistake of
ours, or with its process, may have done its work: it is never done again, and whoever asks is told to look.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from deployer.api.refused import RefusedError
from deployer.api.tokens import bearer
from deployer.models import FirstAnswer
from people.models import ApiToken

HEADER = "Idempotency-Key"
FIELD = "idempotency_key"
#: What a key may be: visible ASCII, and no more of it than this.
LONGEST_KEY = 255
PATTERN = r"^[!-~]+$"
#: No request is answered for so long: its process is gone.
LOST_AFTER = timedelta(minutes=20)
_PIECE = 1 << 20

Run = Callable[..., HttpResponseBase]


def once(run: Run) -> Run:
    """What answers a request, so that it does so once for each key of a token."""

    @wraps(run)
    def answered(request: HttpRequest, **values: Any) -> HttpResponseBase:
        try:
            token = bearer(request)
            key = _key_of(request) if token else None
            if token is None or key is None:
                return run(request, **values)
            row, is_first = _claimed(token, key, _digest_of(request), timezone.now())
            if not is_first:
                return _again(row, _digest_of(request), timezone.now())
        except RefusedError as error:
            return error.answer()
        with _kept(row) as keep:
            answer = run(request, **values)
            keep(answer)
        return answer

    return answered


def _key_of(request: HttpRequest) -> str | None:
    """The key of a request, by header or in its JSON. Raises `RefusedError` where it is none, or both differ."""
    given = request.headers.get(HEADER)
    body = _json_of(request)
    named = body.get(FIELD) if isinstance(body, dict) else None
    if not isinstance(named, str):  # the endpoint says what is wrong with it
        named = None
    if given is not None and named is not None and given != named:
        raise RefusedError(422, _("The header and the field name different keys."), field=FIELD)
    key = named if given is None else given
    if key is not None and (len(key) > LONGEST_KEY or not re.fullmatch(PATTERN, key)):
        told = _("An idempotency key is up to %d visible ASCII characters, without spaces.")
        raise RefusedError(422, told % LONGEST_KEY, field=FIELD)
    return key


def _json_of(request: HttpRequest) -> Any:
    if request.content_type == "multipart/form-data":
        return None
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        return None


def _digest_of(request: HttpRequest) -> str:
    """A keyed digest of all that is asked for, but the key itself."""
    digest = hashlib.sha256(f"{request.method} {request.get_full_path()}\n".encode())
    if request.content_type == "multipart/form-data":
        digest.update(json.dumps(sorted((name, values) for name, values in request.POST.lists())).encode())
        files: list[tuple[str, Any]] = sorted(request.FILES.items())
        for name, file in files:
            digest.update(f"\n{name} {file.name} {file.size}\n".encode())
            while piece := file.read(_PIECE):
                digest.update(piece)
            file.seek(0)
    else:
        body = _json_of(request)
        if isinstance(body, dict):
            body = {name: value for name, value in body.items() if name != FIELD}
        digest.update(request.body if body is None else json.dumps(body, sort_keys=True).encode())
    return salted_hmac("deployer.api.once", digest.hexdigest(), algorithm="sha256").hexdigest()


def _claimed(token: ApiToken, key: str, asked: str, now: datetime) -> tuple[FirstAnswer, bool]:
    """The row of a key, and whether it is a new one."""
    values = {"token": token, "key": hashlib.sha256(key.encode()).hexdigest()}
    try:
        with transaction.atomic():
            FirstAnswer.forget_old(now)
            return FirstAnswer.objects.create(**values, asked=asked, created_at=now), True
    except IntegrityError:
        row = FirstAnswer.objects.filter(**values).first()
    if row is None:  # that one was refused at this moment
        raise RefusedError(409, _("A request with this key has just ended: send it again."), field=FIELD, wait=1)
    return row, False


def _again(row: FirstAnswer, asked: str, now: datetime) -> HttpResponse:
    """The answer to a request whose key is known already."""
    if row.asked != asked:
        raise RefusedError(422, _("This key was used for another request: take a new one."), field=FIELD)
    if row.status is None and now < row.created_at + LOST_AFTER:
        raise RefusedError(409, _("A request with this key is being answered."), field=FIELD, wait=1)
    if row.status is None or row.status >= 500:
        told = _("A request with this key was cut off: look what became of it, and take a new key to send it again.")
        raise RefusedError(409, told, field=FIELD)
    answer = HttpResponse(row.body, status=row.status, content_type="application/json; charset=utf-8")
    answer["Idempotency-Replayed"] = "true"
    return answer


@contextmanager
def _kept(row: FirstAnswer) -> Iterator[Callable[[Any], None]]:
    """Write down how a request ends, whatever becomes of it."""
    ends: list[Any] = []
    rows = FirstAnswer.objects.filter(pk=row.pk)
    try:
        yield ends.append
    finally:
        answer = ends[0] if ends else None
        if answer is None or answer.status_code >= 500:
            rows.update(status=500)
        elif answer.status_code >= 400:
            rows.delete()
        else:
            rows.update(status=answer.status_code, body=answer.content.decode())
