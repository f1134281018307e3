"""What the record is made of: acts, where they come from, and the entries, which are only ever added."""

import json
from collections.abc import Iterable
from typing import Any, ClassVar

from django.db import connections, models
from django.db.models.functions import Now  # noqa: TID251  # in the schema: another one would be a migration
from django.utils.translation import gettext_lazy as _


class Act(models.TextChoices):
    """What somebody did. Exports and log lines name acts by their values: they stay as they are."""

    CREATED = "created", _("added")
    CHANGED = "changed", _("changed")
    DELETED = "deleted", _("deleted")
    ARCHIVED = "archived", _("archived")
    RESTORED = "restored", _("restored")
    LAUNCHED = "launched", _("launched")
    RETRIED = "retried", _("retried")
    ROLLED_BACK = "rolled_back", _("rolled back")
    CANCELLED = "cancelled", _("cancelled")
    FORCED = "forced", _("forced to stop")
    CONTINUED = "continued", _("continued")
    APPROVED = "approved", _("approved")
    REJECTED = "rejected", _("rejected")
    OVERRODE = "overrode", _("overrode a gate")
    LOCKED = "locked", _("locked")
    UNLOCKED = "unlocked", _("unlocked")
    HELD = "held", _("held")
    RELEASED = "released", _("lifted a hold")
    PINNED_HOST_KEY = "pinned_host_key", _("pinned a host key")
    TESTED = "tested", _("tested")
    DOWNLOADED = "downloaded", _("downloaded")
    SIGNED_IN = "signed_in", _("signed in")
    SIGN_IN_FAILED = "sign_in_failed", _("failed to sign in")
    SIGNED_OUT = "signed_out", _("signed out")
    FACTOR_ADDED = "factor_added", _("added a second factor")
    FACTOR_REMOVED = "factor_removed", _("removed a second factor")
    TOKEN_MADE = "token_made", _("made a token")
    TOKEN_USED = "token_used", _("used a token")
    TOKEN_REVOKED = "token_revoked", _("revoked a token")
    GRANTED = "granted", _("granted a right")
    REVOKED = "revoked", _("revoked a right")


class Origin(models.TextChoices):
    """From where somebody acted."""

    PAGE = "page", _("Page")
    API = "api", _("API")
    COMMAND = "command", _("Command line")
    WEBHOOK = "webhook", _("Webhook")
    SCHEDULE = "schedule", _("Schedule")
    WORKER = "worker", _("Worker")


class EntryQuerySet(models.QuerySet["Entry"]):
    """Entries."""

    def add(self, entries: Iterable["Entry"]) -> list[int]:
        """Write ``entries`` in one statement, however many; gives their numbers."""
        fields = [field for field in self.model._meta.concrete_fields if field.name not in {"id", "at"}]
        rows = [[_plain(field, getattr(entry, field.attname)) for field in fields] for entry in entries]
        if not rows:
            return []
        connection = connections[self.db]
        quoted = connection.ops.quote_name
        picked, taken = (
            ("CAST(row->>{} AS {})", "jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS given(row, key)")
            if connection.vendor == "postgresql"
            else ("json_extract(value, '$[{}]')", "json_each(%s)")
        )
        kinds = [field.cast_db_type(connection) for field in fields]
        columns = ", ".join(quoted(str(field.column)) for field in fields)
        values = ", ".join(picked.format(number, kinds[number]) for number, field in enumerate(fields))
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {quoted(self.model._meta.db_table)} ({columns}) "  # noqa: S608 (names of our own)
                f"SELECT {values} FROM {taken} ORDER BY key RETURNING id",
                [json.dumps(rows)],
            )
            return [number for (number,) in cursor.fetchall()]


def _plain(field: "models.Field[Any, Any]", value: Any) -> Any:
    return json.dumps(value) if isinstance(field, models.JSONField) else value


EntryManager = models.Manager.from_queryset(EntryQuerySet)


class Entry(models.Model):
    """One act: when by the database's clock, who, from where, what was done with which thing, before and after.

    Nothing here leads to another row: users and things go, and their entries stay, with their numbers and the names of
    that day. ``environments`` are those where the thing stood before or after, as ``,production,staging,``; with
    ``project``, a number, they say who may read the entry. ``before`` and ``after`` hold the changed fields alone.
    Entries are written by `people.record`; triggers of the database refuse to change or delete one.
    """

    objects = EntryManager()

    at = models.DateTimeField(_("when"), db_default=Now(), db_index=True, editable=False)
    act = models.CharField(_("act"), max_length=20, choices=Act, editable=False)
    user = models.BigIntegerField(_("user"), null=True, editable=False)
    user_name = models.CharField(_("user name"), max_length=150, blank=True, editable=False)
    origin = models.CharField(_("from"), max_length=10, choices=Origin, editable=False)
    where = models.CharField(_("page or command"), max_length=200, blank=True, editable=False)
    address = models.CharField(_("address"), max_length=64, blank=True, editable=False)
    token = models.CharField(_("token"), max_length=120, blank=True, editable=False)
    login = models.CharField(_("login of the machine"), max_length=100, blank=True, editable=False)
    kind = models.CharField(_("kind"), max_length=40, blank=True, editable=False)
    number = models.BigIntegerField(_("number"), null=True, editable=False)
    name = models.CharField(_("name"), max_length=200, blank=True, editable=False)
    environments = models.CharField(_("environments"), max_length=200, blank=True, editable=False)
    project = models.BigIntegerField(_("project"), null=True, editable=False)
    before = models.JSONField(_("before"), default=dict, blank=True, editable=False)
    after = models.JSONField(_("after"), default=dict, blank=True, editable=False)
    note = models.TextField(_("note"), blank=True, editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("entry of the record")
        verbose_name_plural = _("record")
        default_permissions = ()  # nobody edits it
        indexes: ClassVar = [
            models.Index(fields=["act", "-id"], name="entries_of_an_act"),
            models.Index(fields=["user", "-id"], name="entries_of_a_user"),
            models.Index(fields=["kind", "number", "-id"], name="entries_of_a_thing"),
            models.Index(fields=["project", "-id"], name="entries_of_a_project"),
        ]

    def __str__(self) -> str:
        return f"{self.pk}: {self.user_name or self.login} {self.act} {self.kind} {self.name}".rstrip()

    @property
    def who(self) -> str:
        """The user by name, or the login of the machine where no user is known."""
        return self.user_name or self.login

    @property
    def in_environments(self) -> list[str]:
        """The environments, one by one."""
        return [name for name in self.environments.split(",") if name]

    def as_json(self) -> dict[str, Any]:
        """The entry as a line of a file and an export have it."""
        return {
            "number": self.pk,
            "at": self.at.isoformat(timespec="milliseconds"),
            "act": self.act,
            "user": {"number": self.user, "name": self.user_name},
            "from": {
                "origin": self.origin,
                "where": self.where,
                "address": self.address,
                "token": self.token,
                "login": self.login,
            },
            "thing": {"kind": self.kind, "number": self.number, "name": self.name},
            "environments": self.in_environments,
            "project": self.project,
            "before": self.before,
            "after": self.after,
            "note": self.note,
        }
