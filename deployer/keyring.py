"""The encryption keys and the rows that they open: looked at before anything is started, and rotated while it runs.

A database counts on the keys that its rows were written with. Each has a row of its own (`EncryptionKey`): its
fingerprint, and a canary that it has sealed. Whatever is started without one of them stops with a sentence, before it
takes a job that it cannot read or writes with a key that the others do not have.
"""

import hashlib
import hmac
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.models.functions import Cast
from django.utils.translation import gettext as _

from deployer.host.keyfiles import new_encryption_key, read_or_make
from deployer.models import EncryptionKey
from people.factors import SEALED
from servers.fields import Sealed, encrypted_fields

logger = logging.getLogger(__name__)

_LABEL = b"deployer: the fingerprint of an encryption key"
_CANARY = b"deployer"
#: Rows that one transaction of a rotation writes: the site waits for it, where the database is an SQLite file.
BATCH = 200
#: What stands for the fingerprint of a key that a database from before fingerprints counts on.
UNKNOWN = "unknown"


class MissingKeyError(ImproperlyConfigured):
    """The database holds secrets of a key that is not here. The message says which, and what to do."""


def fingerprint(key: str) -> str:
    """A name for a key that does not give it away: 64 bits of an HMAC."""
    return hmac.new(key.encode(), _LABEL, hashlib.sha256).hexdigest()[:16]


def keys() -> dict[str, Fernet]:
    """The keys at hand, the newest first, by their fingerprints."""
    return {fingerprint(key): Fernet(key) for key in settings.DEPLOYER_ENCRYPTION_KEYS}


def refuse_missing_keys(using: str = DEFAULT_DB_ALIAS) -> None:
    """Raise `MissingKeyError` where the database has secrets of a key that is not here. Nothing is written."""
    known = _counted_on(using) or {}
    if not known:
        _refuse_unread(using)
    if missing := missing_for(known):
        raise MissingKeyError(_sentence(missing[0]))


def prepare_keys(using: str = DEFAULT_DB_ALIAS) -> None:
    """As above; then make the first key of a database without secrets, and write down those that it counts on now."""
    refuse_missing_keys(using)
    known = _counted_on(using)
    if known is None:
        return
    if not settings.DEPLOYER_ENCRYPTION_KEYS:
        _make_key()
    at_hand = keys()
    # Rows from before fingerprints may be of any of the keys.
    for name in list(at_hand)[: 1 if known else None]:
        if name not in known:
            _write_down(name, at_hand[name], using)


def _counted_on(using: str) -> dict[str, str] | None:
    """The canaries of the keys that a database counts on, by their fingerprints; None where it has no table of them."""
    if EncryptionKey._meta.db_table not in connections[using].introspection.table_names():
        return None
    return dict(EncryptionKey.objects.using(using).values_list("fingerprint", "canary"))


def canaries(using: str = DEFAULT_DB_ALIAS) -> dict[str, str]:
    """What the keys that a database counts on have sealed, by fingerprint; a copy of it needs those keys.

    A database from before fingerprints counts on all that are at hand.
    """
    return _counted_on(using) or {name: box.encrypt(_CANARY).decode() for name, box in keys().items()}


def missing_for(sealed: Mapping[str, str]) -> list[str]:
    """The fingerprints of the keys that these canaries need, and that are not at hand."""
    at_hand = keys()
    return [name for name, canary in sealed.items() if name not in at_hand or not _opens(at_hand[name], canary)]


def forget(name: str) -> bool:
    """Count no more on a key that is lost: its secrets have to be entered again. Says whether it was counted on.

    Where no key is left, a new one is made.
    """
    rows = EncryptionKey.objects.all()
    known = set(rows.values_list("fingerprint", flat=True))
    if name in keys() or (name not in known if known else name != UNKNOWN):
        return False
    if not settings.DEPLOYER_ENCRYPTION_KEYS:
        _make_key()
    newest, box = next(iter(keys().items()))
    with transaction.atomic():
        rows.filter(fingerprint=name).delete()
        _write_down(newest, box)
    return True


def _make_key() -> None:
    key = read_or_make(Path(settings.DEPLOYER_ENCRYPTION_KEY_FILE), new_encryption_key)
    settings.DEPLOYER_ENCRYPTION_KEYS[:] = [part.strip() for part in key.split(",")]


def _write_down(name: str, box: Fernet, using: str = DEFAULT_DB_ALIAS) -> None:
    EncryptionKey.objects.using(using).get_or_create(
        fingerprint=name, defaults={"canary": box.encrypt(_CANARY).decode()}
    )


def _opens(box: Fernet, token: str) -> bool:
    try:
        box.decrypt(token.encode())
    except InvalidToken:
        return False
    return True


def _refuse_unread(using: str) -> None:
    """A database from before fingerprints, or one without secrets: one of the first rows must open."""
    boxes = list(keys().values())
    found = [token for place in places(using) for _pk, token in next(place.tokens(), [])]
    if found and not any(_opens(box, token) for token in found for box in boxes):
        raise MissingKeyError(_sentence(UNKNOWN))


def _sentence(name: str) -> str:
    words = {"fingerprint": name, "file": settings.DEPLOYER_ENCRYPTION_KEY_FILE}
    if settings.DEPLOYER_ENCRYPTION_KEYS:
        sentence = _(
            "The database holds secrets of an encryption key that is not here (its fingerprint: %(fingerprint)s). Put "
            "that key behind the others in DEPLOYER_ENCRYPTION_KEYS or %(file)s, from your backup or from where it is "
            "still in use. If it is lost for good: “deployer rotate_keys --forget %(fingerprint)s”; its secrets "
            "must then be entered again."
        )
    else:
        sentence = _(
            "The database holds secrets, and there is no encryption key (its fingerprint: %(fingerprint)s). Restore "
            "%(file)s from your backup, or set DEPLOYER_ENCRYPTION_KEYS. If it is lost for good: “deployer "
            "rotate_keys --forget %(fingerprint)s” makes a new one; every secret must then be entered again."
        )
    return sentence % words


# --- rotation ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """An encrypted field of a model: where secrets stand."""

    model: type[models.Model]
    name: str
    using: str = DEFAULT_DB_ALIAS

    def __str__(self) -> str:
        return f"{self.model._meta.label}.{self.name}"

    @property
    def _rows(self) -> "models.QuerySet[Any]":
        held = self.model._base_manager.using(self.using).exclude(**{f"{self.name}__isnull": True})
        return held.exclude(**{self.name: Sealed("")}).order_by("pk")

    @property
    def _stored(self) -> "models.QuerySet[Any, tuple[Any, str]]":
        rows: models.QuerySet[Any, tuple[Any, str]] = self._rows.annotate(
            stored=Cast(self.name, models.TextField())
        ).values_list("pk", "stored")
        return rows

    def tokens(self) -> Iterator[list[tuple[Any, str]]]:
        """The primary key and the stored token of each row, `BATCH` at a time."""
        rows = self._stored
        batch = [*rows[:BATCH]]
        while batch:
            yield batch
            batch = [*rows.filter(pk__gt=batch[-1][0])[:BATCH]]

    def replace(self, pk: Any, old: str, new: str) -> bool:
        """Write ``new`` where ``old`` still stands: what somebody has written meanwhile stays. Says whether it did."""
        rows = self._rows.filter(pk=pk, **{self.name: Sealed(old)})
        return rows.update(**{self.name: Sealed(new)}) == 1


@dataclass(frozen=True)
class FactorPlace(Place):
    """The sealed secrets of second factors of one kind, which stand under ``name`` in their data."""

    kind: str = ""

    def __str__(self) -> str:
        return f"{self.model._meta.label}.data.{self.name} ({self.kind})"

    @property
    def _rows(self) -> "models.QuerySet[Any]":
        return self.model._base_manager.using(self.using).filter(type=self.kind).order_by("pk")

    @property
    def _stored(self) -> "models.QuerySet[Any, tuple[Any, str]]":
        rows: models.QuerySet[Any, tuple[Any, str]] = self._rows.values_list("pk", f"data__{self.name}")
        return rows

    def replace(self, pk: Any, old: str, new: str) -> bool:
        row = self._rows.select_for_update().filter(pk=pk).first()
        if row is None or row.data.get(self.name) != old:
            return False
        return bool(self._rows.filter(pk=pk).update(data=row.data | {self.name: new}))


def places(using: str = DEFAULT_DB_ALIAS) -> list[Place]:
    """Every encrypted field of every model whose table is there, and the secrets of second factors."""
    tables = set(connections[using].introspection.table_names())
    found = [
        Place(model, name, using)
        for model in apps.get_models()
        if model._meta.db_table in tables
        for name in encrypted_fields(model)
    ]
    factor = apps.get_model("mfa", "Authenticator")
    if factor._meta.db_table in tables:
        found += [FactorPlace(factor, name, using, kind) for kind, name in SEALED.items()]
    return found


@dataclass
class Census:
    """How many rows are under which key, and those that open with none: the place and the primary key."""

    under: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[Place, Any]] = field(default_factory=list)

    def add(self, place: Place, pk: Any, name: str) -> None:
        if name:
            self.under[name] += 1
        else:
            self.unreadable.append((place, pk))


def census() -> Census:
    """Look at every row."""
    found, at_hand = Census(), keys()
    for place in places():
        for batch in place.tokens():
            for pk, token in batch:
                found.add(place, pk, _key_of(token, at_hand))
    return found


def _key_of(token: str, at_hand: dict[str, Fernet]) -> str:
    """The fingerprint of the key that opens a token; empty where none does."""
    return next((name for name, box in at_hand.items() if _opens(box, token)), "")


def rotate(place: Place) -> Iterator[int]:
    """Encrypt with the newest key what another one has encrypted; gives how many rows each batch has changed."""
    at_hand = keys()
    newest, *older = at_hand.values()
    for batch in place.tokens():
        changes = []
        for pk, token in batch:
            box = None if _opens(newest, token) else next((box for box in older if _opens(box, token)), None)
            if box is not None:
                changes.append((pk, token, newest.encrypt(box.decrypt(token.encode())).decode()))
        with transaction.atomic():
            done = sum(place.replace(*change) for change in changes)
        yield done


def drop_unused(found: Census) -> list[str]:
    """Count no more on those of the older keys under which no row is left; gives their fingerprints."""
    unused = [name for name in list(keys())[1:] if not found.under[name]]
    EncryptionKey.objects.filter(fingerprint__in=unused).delete()
    return unused
