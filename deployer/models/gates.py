"""Gates before a rollout: the hold, locks, freezes, what is required, and what people have decided."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.dates import WEEKDAYS_ABBR
from django.utils.translation import gettext_lazy as _

from deployer.models.deployment import Deployment
from deployer.models.triggers import LONGEST_REASON
from people.models import Team, User
from people.record import Act
from people.rights import Person, reach
from people.roles import EVERYWHERE, Action, Place
from projects.models import Project
from projects.validators import validate_time_zone
from servers.models import Environment
from servers.validators import validate_one_line

#: Years of a gate's dates: at the ends of the calendar there is no next day, and no other time zone.
CALENDAR = range(2000, 2200)


def _beyond() -> str:
    return _("Give a year from %(first)d to %(last)d.") % {"first": CALENDAR[0], "last": CALENDAR[-1]}


class Hold(models.Model):
    """The stop of everything new, by an admin: while its one row is there, nothing is begun."""

    UNRECORDED: ClassVar = frozenset[str]()
    RECORDED_AS: ClassVar = {Act.DELETED: Act.RELEASED}

    one = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    reason = models.CharField(_("reason"), max_length=LONGEST_REASON, validators=[validate_one_line])
    made_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("made by")
    )
    made_for = models.CharField(_("made for"), max_length=200, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("hold")
        verbose_name_plural = _("holds")
        constraints: ClassVar = [models.CheckConstraint(condition=models.Q(one=1), name="one_hold")]

    def __str__(self) -> str:
        return self.reason

    @property
    def maker(self) -> str:
        """Who made it: a user, else the login on the machine."""
        return self.made_by.get_username() if self.made_by else self.made_for

    @property
    def places(self) -> list[Place]:
        """All of them."""
        return [EVERYWHERE]

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places


class GateQuerySet(models.QuerySet[Any]):
    """Gates by what they stand before."""

    def before(self, project: Project) -> Self:
        """Those of ``project`` and those of its environment, these first."""
        own = models.Q(project=project) | models.Q(project=None, environment=project.environment)
        return self.filter(own).order_by(models.F("project").asc(nulls_first=True), "pk")

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those of the places where ``user`` may do this."""
        reached = reach(user, action)
        return self.filter(
            (models.Q(project=None) & reached.condition("environment"))
            | (models.Q(project__isnull=False) & reached.condition("project__environment", "project"))
        )


GateManager = models.Manager.from_queryset(GateQuerySet)


class Gate(models.Model):
    """Stands before one project, or before all of an environment. A project is kept by its number, not by its name."""

    UNRECORDED: ClassVar = frozenset[str]()

    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, blank=True, related_name="%(class)ss", verbose_name=_("project")
    )
    environment = models.CharField(_("environment"), max_length=20, choices=Environment, blank=True)

    class Meta:
        abstract = True

    @property
    def places(self) -> list[Place]:
        """The project's, or the environment."""
        return self.project.places if self.project else [Place(self.environment)]

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    @property
    def where(self) -> str:
        """What it stands before, in words."""
        return self.project.label if self.project else str(Environment(self.environment).label)

    def clean(self) -> None:
        """Before one of the two."""
        if bool(self.project_id) == bool(self.environment):
            raise ValidationError(_("Choose an environment or a project, not both."))


def _before_one(name: str) -> models.CheckConstraint:
    condition = models.Q(project=None) & ~models.Q(environment="") | models.Q(project__isnull=False, environment="")
    return models.CheckConstraint(condition=condition, name=name)


class LockQuerySet(GateQuerySet):
    """Locks by whether they are closed."""

    def closed(self) -> Self:
        """Those that were neither lifted nor have expired."""
        return self.filter(models.Q(until=None) | models.Q(until__gt=timezone.now()), lifted_at=None)


LockManager = models.Manager.from_queryset(LockQuerySet)


class Lock(Gate):
    """Somebody's request to leave a place alone for a while. Its maker may launch through it, by hand.

    ``is_warning``: it only says so. One that was lifted stays for its maker to see by whom.
    """

    objects = LockManager()

    reason = models.CharField(_("reason"), max_length=LONGEST_REASON, validators=[validate_one_line])
    made_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="locks", verbose_name=_("made by")
    )
    made_for = models.CharField(_("made for"), max_length=200, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    until = models.DateTimeField(_("until"), null=True, blank=True, help_text=_("Empty: until somebody lifts it."))
    is_warning = models.BooleanField(
        _("only warn"), default=False, help_text=_("Launches are not stopped, and show the reason.")
    )
    lifted_at = models.DateTimeField(_("lifted"), null=True, blank=True, editable=False)
    lifted_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )
    lifted_for = models.CharField(max_length=200, blank=True, editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("lock")
        verbose_name_plural = _("locks")
        constraints: ClassVar = [_before_one("lock_before_a_project_or_an_environment")]

    def __str__(self) -> str:
        return self.reason

    @property
    def maker(self) -> str:
        """Who made it: a user, else the login on the machine."""
        return self.made_by.get_username() if self.made_by else self.made_for

    @property
    def lifter(self) -> str:
        """Who lifted it, in the same way."""
        return self.lifted_by.get_username() if self.lifted_by else self.lifted_for

    def clean(self) -> None:
        """Until a moment that every clock can show."""
        super().clean()
        if self.until is not None and self.until.year not in CALENDAR:
            raise ValidationError({"until": _beyond()})

    def lift(self, by: User | None, login: str = "") -> bool:
        """Open it. Says whether it was closed until now."""
        values = {"lifted_at": timezone.now(), "lifted_by": by, "lifted_for": login}
        return Lock.objects.closed().filter(pk=self.pk).update(**values) == 1


class Freeze(Gate):
    """A window of time in which nothing is begun, or, with ``is_open``, outside of which nothing is.

    By wall clock in ``time_zone``: on ``weekdays`` (Monday is 0), each from ``begins_at`` to ``ends_at``; or once, from
    ``begins_at`` of ``first_day`` to ``ends_at`` of ``last_day``. The minute of the end is included. A window whose end
    is before its begin on the same day ends on the next one.
    """

    objects = GateManager()

    reason = models.CharField(_("reason"), max_length=LONGEST_REASON, validators=[validate_one_line])
    is_open = models.BooleanField(
        _("open"),
        default=False,
        help_text=_("Launches are possible then, and at other times only in other open windows."),
    )
    weekdays = models.CharField(_("weekdays"), max_length=7, blank=True)
    first_day = models.DateField(_("first day"), null=True, blank=True)
    last_day = models.DateField(_("last day"), null=True, blank=True)
    begins_at = models.TimeField(_("from"))
    ends_at = models.TimeField(_("to"), help_text=_("The whole of this minute is included."))
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC", validators=[validate_time_zone])
    made_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("made by")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["id"]
        verbose_name = _("freeze")
        verbose_name_plural = _("freezes")
        constraints: ClassVar = [_before_one("freeze_before_a_project_or_an_environment")]

    def __str__(self) -> str:
        return self.reason

    def clean(self) -> None:
        """Weekdays or dates, and an end after the begin."""
        super().clean()
        if bool(self.weekdays) == bool(self.first_day or self.last_day):
            raise ValidationError(_("Choose weekdays or dates, not both."))
        if self.weekdays:
            return
        self.first_day = self.first_day or self.last_day
        self.last_day = self.last_day or self.first_day
        for name in ("first_day", "last_day"):
            day = getattr(self, name)
            if day is not None and day.year not in CALENDAR:
                raise ValidationError({name: _beyond()})
        if self.first_day and self.last_day and self.last_day < self.first_day:
            raise ValidationError({"last_day": _("The last day is before the first one.")})

    @property
    def zone(self) -> ZoneInfo:
        """Its time zone."""
        return ZoneInfo(self.time_zone)

    @property
    def is_weekly(self) -> bool:
        """Whether it comes back each week."""
        return bool(self.weekdays)

    @property
    def days(self) -> list[str]:
        """The names of its weekdays."""
        return [str(WEEKDAYS_ABBR[int(day)]) for day in self.weekdays]

    def falls_on(self, day: date) -> bool:
        """Whether it begins on this day of the week."""
        return str(day.weekday()) in self.weekdays


class GateRule(Gate):
    """What a rollout needs in a place: the approval of a second person, the proof of staging, or either."""

    objects = GateManager()

    needs_approval = models.BooleanField(
        _("approval"), default=False, help_text=_("A second person has to approve each launch.")
    )
    approvers = models.ManyToManyField(
        Team,
        blank=True,
        related_name="+",
        verbose_name=_("approvers"),
        help_text=_(
            "Members of these teams approve, whatever else they may. Without any: everybody who may launch it."
        ),
    )
    proof_hours = models.PositiveSmallIntegerField(
        _("hours in staging"),
        null=True,
        blank=True,
        help_text=_("How long the very archive must have run in staging, proved and without a restart of its own."),
    )
    proof_is_enough = models.BooleanField(
        _("proof is enough"), default=False, help_text=_("What staging has proved needs no approval.")
    )
    exempts_restarts = models.BooleanField(
        _("restarts are exempt"), default=False, help_text=_("A restart-only deployment needs no approval.")
    )

    class Meta:
        ordering: ClassVar = ["id"]
        verbose_name = _("requirement")
        verbose_name_plural = _("requirements")
        constraints: ClassVar = [
            _before_one("rule_before_a_project_or_an_environment"),
            models.UniqueConstraint(
                fields=["environment"], name="one_rule_of_an_environment", condition=models.Q(project=None)
            ),
            models.UniqueConstraint(fields=["project"], name="one_rule_of_a_project"),
        ]

    def __str__(self) -> str:
        return self.where

    def clean(self) -> None:
        """Something is required, and what is enough is asked for."""
        super().clean()
        if not self.needs_approval and self.proof_hours is None:
            raise ValidationError(_("Require an approval, a proof, or both."))
        if self.proof_is_enough and self.proof_hours is None:
            raise ValidationError({"proof_hours": _("Say for how many hours it has to run in staging.")})


class Approval(models.Model):
    """What somebody has decided about a deployment. It holds for what had this ``digest``, and is never changed.

    ``void_at``: what it was given for is no longer what would happen.
    """

    class Decision(models.TextChoices):
        APPROVED = "approved", _("Approved")
        REJECTED = "rejected", _("Rejected")
        OVERRIDDEN = "overridden", _("Overridden")

    deployment = models.ForeignKey(
        Deployment, on_delete=models.CASCADE, related_name="approvals", verbose_name=_("deployment")
    )
    digest = models.CharField(max_length=64, editable=False)
    decision = models.CharField(_("decision"), max_length=10, choices=Decision)
    reason = models.CharField(_("reason"), max_length=LONGEST_REASON, blank=True, validators=[validate_one_line])
    decided_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("decided by")
    )
    decided_for = models.CharField(max_length=200, blank=True, editable=False)
    decided_at = models.DateTimeField(_("decided"), auto_now_add=True)
    void_at = models.DateTimeField(_("void since"), null=True, blank=True, editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")

    def __str__(self) -> str:
        return f"{self.deployment}: {self.get_decision_display()}"

    @property
    def decider(self) -> str:
        """Who decided: a user, else the login on the machine."""
        return self.decided_by.get_username() if self.decided_by else self.decided_for

    @property
    def places(self) -> Iterable[Place]:
        """Those of the deployment."""
        return self.deployment.places

    @property
    def seen_from(self) -> Iterable[Place]:
        """The same."""
        return self.places

    def is_younger_than(self, moment: datetime) -> bool:
        """Whether it was decided since then."""
        return self.decided_at >= moment
