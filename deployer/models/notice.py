"""Notices: the channels by which people are told what happens, and the outbox of what is to be told."""

import secrets
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from deployer.models.deployment import Deployment
from people.models import User
from people.rights import Person, may, reach
from people.roles import EVERYWHERE, Action, Place
from projects.models import Project
from servers.fields import EncryptedJSONField
from servers.models import Environment
from servers.validators import validate_one_line

#: Characters that are kept of an answer.
LONGEST_ANSWER = 500


class Event(models.TextChoices):
    """What people are told. Channels and outside receivers name them by their values: they stay as they are."""

    LAUNCHED = "launched", _("launched")
    WAITING = "waiting", _("waits for approval")
    PAUSED = "paused", _("paused, or asks how to go on")
    SUCCEEDED = "succeeded", _("succeeded")
    RECOVERED = "recovered", _("back to good")
    FAILED = "failed", _("failed")
    UNCHANGED = "unchanged", _("unchanged: the old process still runs")
    ROLLED_BACK = "rolled_back", _("rolled back")
    INTERRUPTED = "interrupted", _("interrupted")
    CANCELLED = "cancelled", _("cancelled")
    EXPIRED = "expired", _("expired")
    HOST_KEY = "host_key", _("a host key changed")
    DRIFT = "drift", _("drift found")
    SCHEDULE_MISSED = "schedule_missed", _("a schedule could not run")
    TRIGGER_PAUSED = "trigger_paused", _("a trigger was paused")
    TEST = "test", _("test")


class ChannelKind(models.TextChoices):
    """Where a channel leads."""

    MAIL = "mail", _("E-mail")
    SLACK = "slack", "Slack"
    FEISHU = "feishu", _("Feishu / Lark")
    DINGTALK = "dingtalk", _("DingTalk")
    WECOM = "wecom", _("WeCom")
    TEAMS = "teams", "Microsoft Teams"
    TELEGRAM = "telegram", "Telegram"
    WEBHOOK = "webhook", _("Webhook (JSON)")
    GITHUB = "github", _("GitHub deployment status")
    GITLAB = "gitlab", _("GitLab deployment status")
    SENTRY = "sentry", _("Sentry release")
    OTHER = "other", _("Any other address (apprise)")


class ChannelQuerySet(models.QuerySet["Channel"]):
    """Channels."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those with which ``user`` may do this. There are never many, and where they lead to is no column."""
        if reach(user, action).is_everywhere:
            return self
        rows = Channel.objects.prefetch_related("projects").defer("address")
        return self.filter(pk__in=[channel.pk for channel in rows if may(user, action, channel)])

    def open(self) -> Self:
        """Those that tell what happens: nobody has paused them."""
        return self.filter(is_active=True)


ChannelManager = models.Manager.from_queryset(ChannelQuerySet)


class Channel(models.Model):
    """Tells people, or another system, what happens in some places.

    ``address`` is what its kind needs: ``{"url": ..., "secret": ...}`` (see `deployer.notices.kinds`). Without
    ``environments`` it is for all, without ``projects`` too; with both, for those projects there. ``events`` are those
    it tells; ``only_failures`` leaves out what went well, ``first_of_a_row`` what goes wrong as it did before.
    ``last_at``, ``last_ok`` and ``last_answer`` are those of the last message that was settled, ``failures`` how many
    have failed one after the other.
    """

    #: It is paused when so many messages one after the other could not be delivered.
    MOST_FAILURES = 10
    #: What it does by itself is shown on its page, and is no act of anybody.
    UNRECORDED: ClassVar = frozenset({"last_at", "last_ok", "last_answer", "failures"})

    objects = ChannelManager()

    name = models.CharField(_("name"), max_length=100, unique=True, validators=[validate_one_line])
    kind = models.CharField(_("kind"), max_length=20, choices=ChannelKind)
    address = EncryptedJSONField(_("address"), null=True, blank=True)
    events = models.JSONField(_("events"), default=list, blank=True)
    environments = models.JSONField(_("environments"), default=list, blank=True)
    projects = models.ManyToManyField(Project, blank=True, related_name="channels", verbose_name=_("projects"))
    only_failures = models.BooleanField(
        _("only failures"), default=False, help_text=_("Nothing that went well is told, whatever is ticked above.")
    )
    first_of_a_row = models.BooleanField(
        _("only the first of a row"),
        default=True,
        help_text=_("What fails after a failure, in the same project and environment, is not told again."),
    )
    language = models.CharField(_("language"), max_length=10, blank=True)
    is_active = models.BooleanField(_("active"), default=True)
    paused_reason = models.CharField(_("why it is paused"), max_length=LONGEST_ANSWER, blank=True)
    made_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("made by")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)
    last_at = models.DateTimeField(_("last message"), null=True, blank=True, editable=False)
    last_ok = models.BooleanField(_("delivered"), null=True, editable=False)
    last_answer = models.CharField(_("last answer"), max_length=LONGEST_ANSWER, blank=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("channel")
        verbose_name_plural = _("channels")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("channel", args=[self.pk])

    @property
    def places(self) -> list[Place]:
        """Where it tells what happens: who changes it must be able to in all of them."""
        return self.places_of(self.environments, [*self.projects.all()] if self.pk else [])

    @staticmethod
    def places_of(environments: Iterable[str], projects: Iterable[Project]) -> list[Place]:
        """The places of such a channel, before there is one."""
        names, chosen = [*environments], [*projects]
        if not chosen:
            return [Place(name) for name in names] or [EVERYWHERE]
        if not names:
            return [place for project in chosen for place in project.places]
        return [Place(name, project.pk) for project in chosen for name in names]

    @property
    def seen_from(self) -> list[Place]:
        """The same; one for all is seen from every environment."""
        places = self.places
        return places if places != [EVERYWHERE] else [EVERYWHERE, *(Place(name) for name in Environment.values)]

    @property
    def environment_names(self) -> list[str]:
        """Its environments, as people call them."""
        return [str(Environment(name).label) for name in self.environments if name in Environment.values]

    def clean(self) -> None:
        """Only events, environments and languages that there are."""
        if not {*self.events} <= {*Event.values}:
            raise ValidationError({"events": _("There is no such event.")})
        if not {*self.environments} <= {*Environment.values}:
            raise ValidationError({"environments": _("There is no such environment.")})

    def is_for(self, places: Iterable[Place]) -> bool:
        """Whether one of ``places`` is among those that it is for."""
        projects = {project.pk for project in self.projects.all()}
        return any(
            (not self.environments or place.environment in self.environments)
            and (not projects or place.project in projects)
            for place in places
        ) or not (self.environments or projects)

    def pause(self, reason: str) -> bool:
        """Tell nothing from now on, and say why. Says whether it was active."""
        rows = Channel.objects.open().filter(pk=self.pk)
        return rows.update(is_active=False, paused_reason=reason[:LONGEST_ANSWER]) == 1

    def note(self, now: datetime, answer: str, *, ok: bool, is_over: bool = True) -> bool:
        """Write how its last message ended, or the last try. Says whether too many have failed by now."""
        rows = Channel.objects.filter(pk=self.pk)
        failures: Any = 0 if ok else models.F("failures") + int(is_over)
        rows.update(last_at=now, last_ok=ok, last_answer=answer[:LONGEST_ANSWER], failures=failures)
        return rows.filter(failures__gte=self.MOST_FAILURES).exists()


class NoticeQuerySet(models.QuerySet["Notice"]):
    """Notices by how far they are, and by who may change their channels."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those of channels with which ``user`` may do this; mail to somebody is for those who may everywhere."""
        if reach(user, action).is_everywhere:
            return self
        return self.filter(channel__in=Channel.objects.reached_by(user, action).order_by().values("pk"))

    def open(self) -> Self:
        """Those that are to be sent, the first time or once more."""
        return self.filter(status__in=Notice.OPEN).exclude(next_at=None)

    def due(self, now: datetime) -> Self:
        """Those whose time has come, except where another one that would do is still open."""
        return self.open().filter(next_at__lte=now).exclude(unless__status__in=[*Notice.OPEN, Notice.Status.SENDING])

    def untried_since(self, moment: datetime) -> Self:
        """Those that have been due since then, and that nobody has tried to send: no courier is running."""
        return self.due(moment).filter(tries=0)

    def cut(self, now: datetime) -> Self:
        """Those that somebody began to send, who is gone."""
        return self.filter(status=Notice.Status.SENDING, claimed_at__lt=now - Notice.LONGEST)

    def settled(self) -> Self:
        """Those of which nothing more comes."""
        return self.exclude(status=Notice.Status.SENDING).filter(
            ~models.Q(status__in=Notice.OPEN) | models.Q(next_at=None)
        )


NoticeManager = models.Manager.from_queryset(NoticeQuerySet)


class Notice(models.Model):
    """One thing that one channel, or one person by mail, is told: the outbox.

    ::

        waiting → sending → sent
                          → waiting (it failed, and is tried again at ``next_at``)
                          → failed
                          → unknown (it was cut between the request and the answer) → sending, once more, or nothing
        waiting → dropped

    It is written in the transaction of what it tells, and ``facts`` are frozen then. Whoever sends it moves it to
    ``sending`` before the request leaves, under a ``claim``; ``message_id`` is given at the first try and stays.
    Several that become one message have the same. ``was_cut``: it may have arrived already, and is sent no third time.
    ``unless``: it is dropped if that one was delivered. ``bundle`` names the train that it belongs to, ``once`` what is
    told once only. ``reference`` is what the receiver calls it.
    """

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        SENDING = "sending", _("Sending")
        SENT = "sent", _("Sent")
        FAILED = "failed", _("Failed")
        UNKNOWN = "unknown", _("Unknown")
        DROPPED = "dropped", _("Dropped")

    #: Those that are sent when their time comes; an unknown one only where it has such a time.
    OPEN: ClassVar = (Status.WAITING, Status.UNKNOWN)
    #: Nothing is sent for longer: whoever sends longer than this is gone.
    LONGEST = timedelta(seconds=90)

    objects = NoticeManager()

    channel = models.ForeignKey(
        Channel, on_delete=models.CASCADE, null=True, blank=True, related_name="notices", verbose_name=_("channel")
    )
    user = models.ForeignKey(
        User, on_delete=models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("user")
    )
    event = models.CharField(_("event"), max_length=20, choices=Event)
    project = models.BigIntegerField(_("project"), null=True, blank=True)
    deployment = models.ForeignKey(
        Deployment, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("deployment")
    )
    facts = models.JSONField(_("facts"), default=dict, blank=True)
    bundle = models.CharField(max_length=60, blank=True, editable=False)
    once = models.CharField(max_length=200, blank=True, editable=False, db_index=True)
    unless = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.WAITING)
    message_id = models.CharField(_("message"), max_length=32, blank=True, editable=False, db_index=True)
    claim = models.CharField(max_length=32, blank=True, editable=False)
    claimed_at = models.DateTimeField(null=True, editable=False)
    was_cut = models.BooleanField(default=False, editable=False)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    next_at = models.DateTimeField(_("next try"), null=True, blank=True)
    answer = models.CharField(_("answer"), max_length=LONGEST_ANSWER, blank=True)
    reference = models.CharField(max_length=200, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"))
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("notice")
        verbose_name_plural = _("notices")
        default_permissions = ()  # nobody edits it
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(channel=None, user__isnull=False) | models.Q(channel__isnull=False, user=None),
                name="notice_to_a_channel_or_a_user",
            ),
            models.UniqueConstraint(
                fields=["channel", "once"], name="notice_once_in_a_channel", condition=~models.Q(once="")
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["channel", "-id"], name="notices_of_channel"),
            models.Index(
                fields=["next_at"],
                name="open_notices",
                condition=models.Q(status__in=["waiting", "unknown", "sending"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_event_display()} → {self.channel or self.user}"

    @property
    def places(self) -> Iterable[Place]:
        """Those of its channel."""
        return self.channel.places if self.channel else [EVERYWHERE]

    @property
    def seen_from(self) -> Iterable[Place]:
        """The same as its channel."""
        return self.channel.seen_from if self.channel else [EVERYWHERE]

    @classmethod
    def take(cls, numbers: Collection[int], now: datetime) -> "list[Notice]":
        """Begin to send those of these that nobody else has begun to send, as one message; gives them.

        Written before the request leaves: whoever is cut from here on leaves behind that it is unknown.
        """
        token = secrets.token_hex(16)
        rows = cls.objects.open().filter(pk__in=numbers)
        known = rows.exclude(message_id="").values_list("message_id", flat=True).first()
        rows.update(
            claim=token,
            claimed_at=now,
            message_id=known or secrets.token_hex(16),
            tries=models.F("tries") + 1,
            status=cls.Status.SENDING,
            next_at=None,
        )
        taken = cls.objects.filter(claim=token).select_related("channel", "user", "deployment")
        return [*taken.defer("deployment__plan").order_by("pk")]

    def finish(self, status: "Notice.Status", now: datetime, answer: str = "", **values: Any) -> bool:
        """Write how the message ended that this one is sent with. Says whether it was still this sender's."""
        rows = Notice.objects.filter(claim=self.claim, status=self.Status.SENDING)
        if status == self.Status.SENT:
            values["sent_at"] = now
        return rows.update(status=status, answer=answer[:LONGEST_ANSWER], **values) > 0
