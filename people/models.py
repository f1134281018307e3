"""Who uses deployer: users, teams, grants, API tokens, sessions. Nothing here knows a server or a project."""

import hashlib
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from people.browsers import in_words
from people.entries import Act, Entry
from people.record import actor, delete, record
from people.roles import Action, Place, Role
from people.writes import if_nobody_else_writes

__all__ = ["ApiToken", "Entry", "FailureCount", "Grant", "Team", "User"]

_LINE = RegexValidator(
    r"[\x00-\x1f\x7f]", _("Line breaks and control characters are not allowed here."), inverse_match=True
)
#: The use of a token is written down at most this often.
_USE_NOTED_EVERY = timedelta(minutes=1)
_RECORDED_EVERY = timedelta(hours=1)


class User(AbstractUser):
    """Somebody who logs in, or a service that only has tokens. Rights come by `Grant`, to the user or to a team.

    ``acting_token`` is the token by which this request acts: it narrows every right (`people.rights`).
    """

    is_service = models.BooleanField(
        _("service account"),
        default=False,
        help_text=_("Has API tokens and no password: nobody signs in with it, and it approves nothing."),
    )
    UNRECORDED: ClassVar = frozenset({"last_login", "favourites", "filters"})
    SECRETS_OF_RECORD: ClassVar = ("password",)

    class MailAbout(models.TextChoices):
        NEVER = "never", _("Nothing")
        FAILURES = "failures", _("What fails, or waits for me")
        ALL = "all", _("How each one ended")

    language = models.CharField(_("language"), max_length=10, blank=True)
    time_zone = models.CharField(_("time zone"), max_length=60, blank=True)
    mail_about = models.CharField(
        _("mail about my launches"),
        max_length=10,
        choices=MailAbout,
        default=MailAbout.FAILURES,
        help_text=_("Sent to the e-mail address of the account, unless a channel of yours has told you already."),
    )
    #: Numbers of the projects that come first on this user's board.
    favourites = models.JSONField(default=list, blank=True, editable=False)
    #: Filters of the history that this user has kept: pairs of a name and the query of an address.
    filters = models.JSONField(default=list, blank=True, editable=False)
    acting_token: "ApiToken | None" = None

    def check_password(self, raw_password: str | None) -> bool:
        """Whether it is the password; a service account has none, whatever was stored for it."""
        return not self.is_service and super().check_password(raw_password)

    def get_session_auth_hash(self) -> str:
        """What a session of this user must know. No session of a service account holds: each time it is another one."""
        return secrets.token_hex() if self.is_service else super().get_session_auth_hash()

    @property
    def invitation(self) -> "PasswordLink | None":
        """The link by which somebody who was invited comes in; nothing once they have."""
        link: PasswordLink | None = getattr(self, "password_link", None)
        return link if link is not None and link.purpose == PasswordLink.Purpose.INVITATION else None

    def lose_password(self) -> None:
        """Keep no password, and none that could be guessed."""
        self.password = make_password(None)

    def revoke_tokens(self) -> int:
        """Delete every API token of this user; gives how many there were."""
        tokens = [*self.api_tokens.all()]
        delete(*tokens)
        return len(tokens)


class Team(models.Model):
    """Users who are granted rights together."""

    UNRECORDED: ClassVar = frozenset[str]()

    name = models.CharField(_("name"), max_length=100, unique=True, validators=[_LINE])
    members = models.ManyToManyField(User, blank=True, related_name="teams", verbose_name=_("members"))
    provider_group = models.CharField(
        _("group of the provider"),
        max_length=200,
        blank=True,
        validators=[_LINE],
        help_text=_("Whoever signs in through the provider and is in this group there is a member."),
    )

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("team")
        verbose_name_plural = _("teams")

    def __str__(self) -> str:
        return self.name


class ProviderMembership(models.Model):
    """That somebody is in a team because the provider has them in its group: it is taken away again with that."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="provider_memberships")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="provider_memberships")

    class Meta:
        default_permissions = ()  # nobody edits it
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "team"], name="one_membership_by_provider")]

    def __str__(self) -> str:
        return f"{self.user}: {self.team}"


class Grant(models.Model):
    """What a user or a team is in a place: in ``environment`` (empty: all) and ``project`` (its number; none: all).

    Grants only add: the highest role that reaches a thing counts. ``may_run_commands`` adds the right to run any
    command on the servers of the place, which no role below admin has by itself. A project is kept by its number,
    never by its name: names are freed, and whatever takes one must not inherit rights.
    """

    UNRECORDED: ClassVar = frozenset[str]()
    RECORDED_AS: ClassVar = {Act.CREATED: Act.GRANTED, Act.DELETED: Act.REVOKED}

    user = models.ForeignKey(
        User, on_delete=models.CASCADE, null=True, blank=True, related_name="grants", verbose_name=_("user")
    )
    team = models.ForeignKey(
        Team, on_delete=models.CASCADE, null=True, blank=True, related_name="grants", verbose_name=_("team")
    )
    role = models.CharField(_("role"), max_length=10, choices=Role)
    environment = models.CharField(_("environment"), max_length=20, blank=True)
    project = models.BigIntegerField(_("project"), null=True, blank=True, db_index=True)
    may_run_commands = models.BooleanField(
        _("runs commands"),
        default=False,
        help_text=_("Any line on servers there, and saved commands, which they edit. Admins may without."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["id"]
        verbose_name = _("grant")
        verbose_name_plural = _("grants")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(user=None, team__isnull=False) | models.Q(user__isnull=False, team=None),
                name="grant_to_a_user_or_a_team",
            ),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="grant_of_a_known_role"),
            models.CheckConstraint(
                condition=~models.Q(role=Role.VIEWER, may_run_commands=True), name="no_viewer_runs_commands"
            ),
            models.UniqueConstraint(
                "user", "environment", Coalesce("project", 0), name="one_grant_of_a_user", condition=models.Q(team=None)
            ),
            models.UniqueConstraint(
                "team", "environment", Coalesce("project", 0), name="one_grant_of_a_team", condition=models.Q(user=None)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.team}: {self.get_role_display()}"

    @property
    def place(self) -> Place:
        return Place(self.environment, self.project)

    def allows(self, action: Action) -> bool:
        """Whether it lets somebody do this in its place."""
        if action is Action.COMMAND and self.may_run_commands:
            return True
        return Role(self.role).rank >= action.role.rank

    @property
    def places(self) -> list[Place]:
        """Where it holds: its entries in the record are read there."""
        return [self.place]


class ApiToken(models.Model):
    """A bearer token of the JSON API. Only its SHA-256 is stored; the token itself is shown once.

    ``prefix`` is its first characters, to tell tokens apart on a page. It never lets anybody do more than its user
    may: ``role`` is the most that it allows, ``projects`` the numbers of those it is for (none: all).
    """

    UNRECORDED: ClassVar = frozenset({"digest", "last_used_at"})
    RECORDED_AS: ClassVar = {Act.CREATED: Act.TOKEN_MADE, Act.DELETED: Act.TOKEN_REVOKED}

    name = models.CharField(_("name"), max_length=100, validators=[_LINE])
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens", verbose_name=_("user"))
    prefix = models.CharField(_("begins with"), max_length=12, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    role = models.CharField(_("allows at most"), max_length=10, choices=Role, default=Role.ADMIN)
    projects = models.JSONField(_("projects"), default=list, blank=True)

    class Meta:
        ordering: ClassVar = ["name", "id"]
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @staticmethod
    def digest_of(token: str) -> str:
        """The stored form of ``token``. It has 256 random bits, so a plain hash is enough."""
        return hashlib.sha256(token.encode()).hexdigest()

    def renew(self) -> str:
        """Give this row a new token and return it: the only moment at which it can be seen."""
        token = f"dpl_{secrets.token_urlsafe(32)}"
        self.prefix, self.digest = token[:12], self.digest_of(token)
        return token

    @classmethod
    def find(cls, token: str) -> "ApiToken | None":
        """The row of ``token`` whose user is active and acts by it, its use recorded; nothing if it has expired."""
        valid = models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now())
        rows = cls.objects.select_related("user").filter(valid, digest=cls.digest_of(token), user__is_active=True)
        row = rows.first()
        if row is not None:
            row.user.acting_token = row
            row._note_use()
        return row

    @property
    def places(self) -> list[Place]:
        """Where it may be used."""
        return [Place(project=number) for number in self.projects] or [Place()]

    def _note_use(self) -> None:
        """Write down that it was used; a request that only reads must not wait for that, or fail.

        The record has one entry for each hour in which it was used.
        """
        now, before = timezone.now(), self.last_used_at
        if before is not None and now - before < _USE_NOTED_EVERY:
            return
        with if_nobody_else_writes(), transaction.atomic():
            type(self).objects.filter(pk=self.pk).update(last_used_at=now)
            if before is None or before.replace(minute=0, second=0, microsecond=0) + _RECORDED_EVERY <= now:
                record(replace(actor().by(self.user), token=str(self)), Act.TOKEN_USED, self)


class PasswordLink(models.Model):
    """A link by which one user sets a password, once: to come in, or because the old one is lost.

    Only its SHA-256 is stored. It holds as long as the person who made it may still make one (`people.links`).
    """

    class Purpose(models.TextChoices):
        INVITATION = "invitation", _("Invitation")
        RESET = "reset", _("New password")

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="password_link", verbose_name=_("user"))
    purpose = models.CharField(_("purpose"), max_length=10, choices=Purpose)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    made_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+", verbose_name=_("made by"))
    expires_at = models.DateTimeField(_("expires"))

    class Meta:
        default_permissions = ()
        verbose_name = _("password link")
        verbose_name_plural = _("password links")

    def __str__(self) -> str:
        return f"{self.user}: {self.get_purpose_display()}"

    @property
    def has_expired(self) -> bool:
        return self.expires_at <= timezone.now()


class Session(models.Model):
    """What is known of the browser behind one of Django's sessions; it goes when that one ends.

    Django's row may be gone before this one is written, so the database holds nobody to it.
    """

    session = models.OneToOneField(
        "sessions.Session", on_delete=models.CASCADE, db_constraint=False, related_name="known"
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions", verbose_name=_("user"))
    agent = models.CharField(_("browser"), max_length=300, blank=True)
    address = models.CharField(_("address"), max_length=45, blank=True)
    created_at = models.DateTimeField(_("signed in"), auto_now_add=True)
    last_used_at = models.DateTimeField(_("last used"))

    class Meta:
        default_permissions = ()
        ordering: ClassVar = ["-last_used_at"]
        verbose_name = _("session")
        verbose_name_plural = _("sessions")

    def __str__(self) -> str:
        return f"{self.user}: {self.address}"

    @property
    def browser(self) -> str:
        """The browser in words."""
        return in_words(self.agent)


class FailureCount(models.Model):
    """What `people.counting` keeps, most of it how often something failed that strangers may try.

    ``key`` is a digest, ``until`` when it is forgotten.
    """

    key = models.CharField(primary_key=True, max_length=64, editable=False)
    value = models.JSONField(editable=False, null=True)
    until = models.DateTimeField(editable=False, db_index=True)

    class Meta:
        default_permissions = ()  # nobody edits it

    def __str__(self) -> str:
        return f"{self.key[:12]}…"
