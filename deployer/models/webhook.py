"""Webhooks: what a git server may launch, and every delivery of one with what became of it."""

import base64
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from deployer.models.deployment import Deployment
from deployer.models.happenings import trigger_paused
from people.models import User
from people.now import Now
from people.rights import Person, reach
from people.roles import Action, Place
from projects.models import Project
from projects.validators import LONGEST_PATTERN, validate_patterns
from servers.fields import EncryptedJSONField, EncryptedTextField
from servers.models import ServerGroup
from servers.validators import validate_one_line

#: For how long the former secret holds beside a new one, at most.
FORMER_HOLDS = timedelta(days=1)
#: Characters of what is kept of a delivery.
LONGEST_REF, LONGEST_TITLE, LONGEST_REASON_OF_DELIVERY = 255, 300, 1000


class WebhookQuerySet(models.QuerySet["Webhook"]):
    """Webhooks by who sees them."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those of projects with which ``user`` may do this."""
        return self.filter(reach(user, action).condition("project__environment", "project"))


WebhookManager = models.Manager.from_queryset(WebhookQuerySet)


class Webhook(models.Model):
    """One address that a git server, or anything else, calls to have a project launched, with its ``owner``'s rights.

    ``key`` is the part of the address that nobody guesses; ``secret`` is what its deliveries are signed with, and
    ``former_secret`` holds beside it until the first delivery with the new one, or ``former_until``. ``refs`` are
    patterns of branches, and of tags where one begins with ``tags/``; without any, the project's default branch and all
    tags. ``paths`` are patterns of changed files, ``workflows`` names of the workflows or pipelines that count. A
    pattern that begins with ``!`` takes out what those before it have let in. Without ``server_groups`` it goes where
    the project belongs. It is paused when it is not ``is_active``; then ``paused_reason`` says why.
    """

    UNRECORDED: ClassVar = frozenset({"former_secret", "former_until"})
    SECRETS_OF_RECORD: ClassVar = ("key",)

    class Provider(models.TextChoices):
        GITHUB = "github", "GitHub"
        GITLAB = "gitlab", "GitLab"
        GITEA = "gitea", _("Gitea or Forgejo")
        GENERIC = "generic", _("Something else")

    class Event(models.TextChoices):
        PUSH = "push", _("A push to a branch")
        TAG = "tag", _("A tag that is pushed")
        SUCCESS = "success", _("A workflow or pipeline that succeeded")

    class Queue(models.TextChoices):
        NEWEST = "newest", _("It waits, and takes the place of an older one that waits")
        ALL = "all", _("It waits, behind all others")
        REFUSE = "refuse", _("It is not launched")

    #: The types that a webhook launches.
    TYPES: ClassVar = [(kind.value, kind.label) for kind in (Deployment.Type.FULL, Deployment.Type.RESTART_ONLY)]

    objects = WebhookManager()

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="webhooks", verbose_name=_("project"))
    name = models.CharField(_("name"), max_length=100, validators=[validate_one_line])
    provider = models.CharField(_("sent by"), max_length=10, choices=Provider)
    key = models.CharField(max_length=64, unique=True, editable=False)
    secret = EncryptedTextField(_("secret"), blank=True, editable=False)
    former_secret = EncryptedTextField(blank=True, editable=False)
    former_until = models.DateTimeField(null=True, editable=False)
    events = models.JSONField(_("launches after"), default=list, blank=True, help_text=_("Empty: a push to a branch."))
    refs = models.JSONField(
        _("branches and tags"),
        default=list,
        blank=True,
        validators=[validate_patterns],
        help_text=_(
            "Patterns, one a line: main, release/*, tags/v*. “*” stands for anything but “/”, “**” for any number of "
            "folders; with “!” in front it takes out. Empty: the project's default branch, and all tags."
        ),
    )
    paths = models.JSONField(
        _("changed files"),
        default=list,
        blank=True,
        validators=[validate_patterns],
        help_text=_(
            "Patterns, one a line: shop/**, !**/*.md. It launches only if a file was changed that fits. Empty: always."
        ),
    )
    workflows = models.JSONField(
        _("workflows"),
        default=list,
        blank=True,
        validators=[validate_patterns],
        help_text=_("Patterns of names, one a line, of workflows or pipelines whose success counts. Empty: of any."),
    )
    deployment_type = models.CharField(_("type"), max_length=20, choices=TYPES, default=Deployment.Type.FULL)
    server_groups = models.ManyToManyField(
        ServerGroup, blank=True, related_name="webhooks", verbose_name=_("server groups")
    )
    queue = models.CharField(
        _("while another one is deployed, or a gate is closed"), max_length=10, choices=Queue, default=Queue.NEWEST
    )
    answers = EncryptedJSONField(null=True, editable=False)
    owner = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="webhooks",
        editable=False,
        verbose_name=_("owner"),
    )
    is_active = models.BooleanField(_("active"), default=True)
    paused_reason = models.CharField(_("paused because"), max_length=500, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        ordering: ClassVar = ["name", "id"]
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "name"],
                name="webhook_of_a_project",
                violation_error_message=_("The project has a webhook of this name already."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("webhook", args=[self.pk])

    def save(self, *args: Any, **options: Any) -> None:
        """Write it; a new one gets its key and its secret."""
        self.key = self.key or secrets.token_urlsafe(32)
        if not self.pk and not self.secret:
            self.secret = self._new_secret()
        self.events = self.events or [self.Event.PUSH.value]
        super().save(*args, **options)

    def clean(self) -> None:
        """Only such kinds of event as there are."""
        super().clean()
        events: Any = self.events
        if not isinstance(events, list) or not {*map(str, events)} <= {*self.Event.values}:
            known = ", ".join(self.Event.values)
            raise ValidationError({"events": _("Choose among %(known)s.") % {"known": known}})

    @property
    def places(self) -> Iterable[Place]:
        """Those of its project."""
        return self.project.places

    @property
    def seen_from(self) -> Iterable[Place]:
        """The same."""
        return self.places

    @property
    def launched_for(self) -> str:
        """What its deployments say that they were launched for."""
        return gettext("webhook: %s") % self.name

    @property
    def address(self) -> str:
        """The path that deliveries are sent to."""
        return reverse("hook", args=[self.key])

    @property
    def is_restart_only(self) -> bool:
        return self.deployment_type == Deployment.Type.RESTART_ONLY

    @property
    def event_labels(self) -> list[str]:
        """The events that it launches after, in words."""
        return [str(self.Event(event).label) for event in self.events if event in self.Event.values]

    def secrets_now(self, now: datetime) -> list[str]:
        """What a delivery may be signed with, the newest first. Raises `DecryptionError`."""
        former = self.former_secret if self.former_until is not None and self.former_until > now else ""
        return [each for each in (self.secret, former) if each]

    def forget_former(self) -> None:
        """The new secret has come into use: the former one holds no longer."""
        if self.former_until is not None:
            Webhook.objects.filter(pk=self.pk).update(former_secret="", former_until=None)

    def renew(self, now: datetime) -> str:
        """Give it a new secret and return it: the only moment at which it can be seen. `save` it."""
        self.former_secret, self.former_until = self.secret, now + FORMER_HOLDS
        self.secret = self._new_secret()
        return self.secret

    def pause(self, why: str) -> bool:
        """Launch nothing by it until somebody resumes it. Says whether it was active."""
        won = Webhook.objects.filter(pk=self.pk, is_active=True).update(is_active=False, paused_reason=why[:500]) == 1
        if won:
            self.is_active, self.paused_reason = False, why[:500]
            trigger_paused.send_robust(Webhook, trigger=self, reason=why)
        return won

    def groups(self) -> list[ServerGroup]:
        """Where it goes: its own groups, else those of the project, by name."""
        own = [*self.server_groups.order_by("name")]
        return own or [*self.project.server_groups.order_by("name")]

    def _new_secret(self) -> str:
        """The form that GitLab takes for signing as well as for its token; others take any text."""
        if self.provider == self.Provider.GITLAB:
            return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        return secrets.token_urlsafe(32)


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    """Deliveries by how far they are."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those to projects with which ``user`` may do this."""
        return self.filter(reach(user, action).condition("project__environment", "project"))

    def received(self) -> Self:
        """Those that nobody has judged yet."""
        return self.filter(status=Delivery.Status.RECEIVED)

    def handled(self) -> Self:
        """Those of which it is written what became of them."""
        return self.filter(status=Delivery.Status.HANDLED)

    def free(self) -> Self:
        """The received ones of projects none of whose deliveries is being judged: those come one after the other."""
        busy = self.model.objects.filter(status=Delivery.Status.JUDGED).values("project")
        return self.received().exclude(project__in=busy)


DeliveryManager = models.Manager.from_queryset(DeliveryQuerySet)


class Delivery(models.Model):
    """What was sent to a webhook with a valid signature, and what became of it: ``received → judged → handled``.

    A worker judges it under its ``claim``, of one project one after the other in the order in which they came; its
    launch and its outcome are written in one transaction, so that one that is judged again has launched nothing.
    ``identifier`` is the sender's own number of it: sent once more with that, it is the same delivery.
    ``is_test``: it finds out what would be launched.
    """

    #: How many workers may be lost with it.
    MOST_TRIES: ClassVar = Deployment.MOST_TRIES

    class Kind(models.TextChoices):
        PUSH = "push", _("Push")
        TAG = "tag", pgettext_lazy("git", "Tag")
        SUCCESS = "success", pgettext_lazy("delivery", "Succeeded")
        PING = "ping", _("Ping")
        OTHER = "other", _("Another event")

    class Status(models.TextChoices):
        RECEIVED = "received", _("Received")
        JUDGED = "judged", _("Being judged")
        HANDLED = "handled", _("Handled")

    class Outcome(models.TextChoices):
        LAUNCHED = "launched", pgettext_lazy("delivery", "Launched")
        JOINED = "joined", pgettext_lazy("delivery", "Joined")
        IGNORED = "ignored", pgettext_lazy("delivery", "Ignored")
        OUTDATED = "outdated", pgettext_lazy("delivery", "Outdated")
        REFUSED = "refused", pgettext_lazy("delivery", "Refused")
        FAILED = "failed", pgettext_lazy("delivery", "Failed")
        TESTED = "tested", pgettext_lazy("delivery", "Tested")

    #: Those that became a launch: the same delivery is answered with it.
    LAUNCHES: ClassVar = (Outcome.LAUNCHED, Outcome.JOINED)

    objects = DeliveryManager()

    webhook = models.ForeignKey(
        Webhook, on_delete=models.CASCADE, related_name="deliveries", verbose_name=_("webhook"), db_index=False
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+", verbose_name=_("project"))
    identifier = models.CharField(_("number of the sender"), max_length=100)
    event = models.CharField(_("event"), max_length=60)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    ref = models.CharField(_("branch or tag"), max_length=LONGEST_REF, blank=True)
    before = models.CharField(_("commit before"), max_length=64, blank=True)
    after = models.CharField(_("commit"), max_length=64, blank=True)
    title = models.CharField(_("title"), max_length=LONGEST_TITLE, blank=True)
    pushers = models.JSONField(_("pushed by"), default=list, blank=True)
    workflow = models.CharField(_("workflow"), max_length=LONGEST_PATTERN, blank=True)
    size = models.PositiveIntegerField(_("bytes"), default=0)
    address = models.CharField(_("address"), max_length=64, blank=True)
    received_at = models.DateTimeField(_("received"))
    times = models.PositiveIntegerField(_("times sent"), default=1)
    is_test = models.BooleanField(_("test"), default=False)
    again_of = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("sent again")
    )
    sent_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("sent by")
    )
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.RECEIVED)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    deployment = models.ForeignKey(
        Deployment,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="deliveries",
        verbose_name=_("deployment"),
    )
    handled_at = models.DateTimeField(_("handled"), null=True, blank=True)
    claim = models.CharField(max_length=32, blank=True, editable=False)
    heartbeat_at = models.DateTimeField(null=True, editable=False)
    tries = models.PositiveSmallIntegerField(default=0, editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["webhook", "identifier"], name="delivery_once"),
            models.UniqueConstraint(
                fields=["project"], name="one_judged_delivery_of_a_project", condition=models.Q(status="judged")
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["webhook", "-id"], name="deliveries_of_webhook"),
            models.Index(fields=["status", "id"], name="open_deliveries", condition=~models.Q(status="handled")),
        ]

    def __str__(self) -> str:
        return f"{self.webhook}: {self.event} {self.ref}".rstrip()

    def get_absolute_url(self) -> str:
        return reverse("delivery", args=[self.pk])

    @property
    def places(self) -> Iterable[Place]:
        """Those of its project."""
        return self.project.places

    @property
    def seen_from(self) -> Iterable[Place]:
        """The same."""
        return self.places

    @property
    def is_handled(self) -> bool:
        """Whether it is written what became of it."""
        return self.status == self.Status.HANDLED

    @property
    def is_deletion(self) -> bool:
        """Whether its branch or tag was deleted."""
        return bool(self.after) and not self.after.strip("0")

    @property
    def has_no_past(self) -> bool:
        """Whether its branch was new: nothing was there before."""
        return bool(self.before) and not self.before.strip("0")

    @property
    def may_be_sent_again(self) -> bool:
        """Whether there is something in it that could launch."""
        return self.is_handled and self.kind in Webhook.Event.values and not self.is_deletion

    # --- moves ---------------------------------------------------------------------------------------

    @classmethod
    def take(cls, claim: str) -> "Delivery | None":
        """The oldest one whose turn it is, for the worker of ``claim``; nothing where none is left."""
        while True:
            pk = cls.objects.free().order_by("id").values_list("pk", flat=True).first()
            if pk is None:
                return None
            try:
                with transaction.atomic():
                    won = (
                        cls.objects.received()
                        .filter(pk=pk)
                        .update(status=cls.Status.JUDGED, claim=claim, heartbeat_at=Now(), tries=models.F("tries") + 1)
                    )
            except IntegrityError:
                continue  # another one of its project was taken at the same moment
            if won:
                return cls.objects.select_related("webhook__project", "webhook__owner").get(pk=pk)

    def beat(self) -> bool:
        """Record a sign of life. False: it was taken away, and nothing more may be done."""
        return self._held().update(heartbeat_at=Now()) == 1

    def finish(self, outcome: "Delivery.Outcome", reason: str, deployment: Deployment | None = None) -> bool:
        """Write what became of it, under this worker's claim. Says whether it won."""
        values: dict[str, Any] = {"outcome": outcome, "reason": reason[:LONGEST_REASON_OF_DELIVERY]}
        values |= {"deployment": deployment, "status": self.Status.HANDLED, "claim": ""}
        won = self._held().update(**values, handled_at=Now()) == 1
        if won:
            self.__dict__ |= {name: value for name, value in values.items() if name != "deployment"}
            self.deployment = deployment
        return won

    @classmethod
    def put_back(cls, rows: "DeliveryQuerySet", why: str) -> int:
        """Have those of lost workers judged again, or ended where that was tried often enough. Says how many."""
        ended: dict[str, Any] = {"status": cls.Status.HANDLED, "outcome": cls.Outcome.FAILED, "claim": ""}
        lost = rows.filter(status=cls.Status.JUDGED)
        given_up = lost.filter(tries__gte=cls.MOST_TRIES).update(**ended, reason=why, handled_at=Now())
        return given_up + lost.update(status=cls.Status.RECEIVED, claim="")

    def receive_again(self, now: datetime | None = None) -> bool:
        """Have it judged once more where it was handled and launched nothing. Says whether it won."""
        rows = Delivery.objects.handled().filter(pk=self.pk).exclude(outcome__in=self.LAUNCHES)
        values: dict[str, Any] = {"status": self.Status.RECEIVED, "outcome": "", "reason": "", "tries": 0}
        return rows.update(**values, handled_at=None, received_at=now or timezone.now()) == 1

    def count_once_more(self) -> None:
        """Write that its sender has sent it again."""
        Delivery.objects.filter(pk=self.pk).update(times=models.F("times") + 1)

    def _held(self) -> DeliveryQuerySet:
        return Delivery.objects.filter(pk=self.pk, status=self.Status.JUDGED, claim=self.claim)
