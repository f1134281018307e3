"""Schedules: what launches a project at a moment, or again and again; and what became of each of these moments."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from deployer.models.deployment import Deployment
from deployer.models.happenings import schedule_left_out, trigger_paused
from deployer.models.triggers import LONGEST_REASON
from people.models import User
from people.rights import Person, reach
from people.roles import Action, Place
from projects.cron import LONGEST_CRON, in_words, next_moments
from projects.models import Project
from projects.questions import Question
from projects.validators import validate_cron, validate_ref, validate_ref_length, validate_time_zone
from servers.fields import EncryptedJSONField
from servers.models import ServerGroup
from servers.validators import validate_one_line

#: What came due this long ago and could not be begun is late: it is left out, unless it was chosen to be made up for.
LATE = timedelta(minutes=15)


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    """Schedules."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those of the projects with which ``user`` may do this."""
        return self.filter(reach(user, action).condition("project__environment", "project"))

    def due(self, now: datetime) -> Self:
        """Those whose next moment has come."""
        return self.filter(is_active=True, next_at__lte=now, project__archived_at=None)


ScheduleManager = models.Manager.from_queryset(ScheduleQuerySet)


class Schedule(models.Model):
    """Launches a project by the clock, with the rights of its owner: once ``at`` a moment, or by a ``cron`` pattern.

    ``next_at`` is its next moment, moved on by one conditional UPDATE in the transaction of the launch: of all who see
    that it has come, one launches. ``missed`` and ``busy`` say what becomes of a moment at which nothing ran here, and
    of one at which the project is being deployed. ``answers`` are those to the project's questions, by name.
    ``paused_reason``: why deployer itself has paused it; empty where somebody has. For one moment, ``commit`` is what
    the branch or tag ``commit_of`` led to when it was planned: that is launched, whatever is pushed until then.
    """

    class Missed(models.TextChoices):
        SKIP = "skip", _("Leave it out, if it is older than 15 minutes")
        ONCE = "once", _("Make up for it, once")

    class Busy(models.TextChoices):
        SKIP = "skip", _("Leave it out")
        QUEUE = "queue", _("Wait in line")

    UNRECORDED: ClassVar = frozenset({"next_at", "created_at", "commit_of", "commit_message"})
    RECORDED_TOO: ClassVar = ("server_groups",)

    objects = ScheduleManager()

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="schedules", verbose_name=_("project"))
    name = models.CharField(_("name"), max_length=100, validators=[validate_one_line])
    server_groups = models.ManyToManyField(
        ServerGroup, blank=True, related_name="schedules", verbose_name=_("server groups")
    )
    deployment_type = models.CharField(
        _("type"), max_length=20, choices=Deployment.Type, default=Deployment.Type.RESTART_ONLY
    )
    branch = models.CharField(
        _("branch"),
        max_length=100,
        blank=True,
        validators=[validate_ref],
        help_text=_("A branch, a tag or a commit. Empty: the project's default branch."),
    )
    commit = models.CharField(_("commit"), max_length=64, blank=True, editable=False)
    commit_message = models.TextField(_("commit message"), blank=True, editable=False)
    commit_of = models.CharField(max_length=100, blank=True, editable=False)
    cron = models.CharField(
        _("cron pattern"),
        max_length=LONGEST_CRON,
        blank=True,
        validators=[validate_cron],
        help_text=_("Minute, hour, day of the month, month, weekday; 30 2 * * 1-5 is 02:30 on workdays."),
    )
    at = models.DateTimeField(_("once, at"), null=True, blank=True)
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC", validators=[validate_time_zone])
    missed = models.CharField(_("missed"), max_length=4, choices=Missed, default=Missed.SKIP)
    busy = models.CharField(_("busy"), max_length=5, choices=Busy, default=Busy.SKIP)
    answers = EncryptedJSONField(_("answers"), null=True, blank=True)
    owner = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="schedules", verbose_name=_("owner")
    )
    is_active = models.BooleanField(_("active"), default=True)
    paused_reason = models.CharField(_("paused because"), max_length=LONGEST_REASON, blank=True, editable=False)
    next_at = models.DateTimeField(_("next"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "name"], name="one_schedule_of_a_name"),
            models.CheckConstraint(
                condition=models.Q(cron="", at__isnull=False) | (~models.Q(cron="") & models.Q(at=None)),
                name="schedule_once_or_by_cron",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["next_at"], name="schedules_due", condition=models.Q(is_active=True)),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def places(self) -> list[Place]:
        """Its project's."""
        return self.project.places

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    @property
    def zone(self) -> ZoneInfo:
        """Its time zone."""
        return ZoneInfo(self.time_zone)

    @property
    def words(self) -> str:
        """When it comes round, for people."""
        if self.cron:
            return in_words(self.cron)
        return str(_("once")) if self.at else ""

    @property
    def is_done(self) -> bool:
        """Whether it was for one moment, which has passed."""
        return not self.cron and self.next_at is None

    @property
    def code(self) -> str:
        """The branch, the tag or the commit that it deploys; empty where it deploys none."""
        builds = self.deployment_type not in Deployment.WITHOUT_RELEASE and self.project.git_url
        return self.branch or self.project.default_branch if builds else ""

    @property
    def frozen(self) -> str:
        """The commit that it launches; empty where that is found out when it launches."""
        return self.commit if self.at is not None and self.code and self.commit_of == self.code else ""

    @property
    def launched_for(self) -> str:
        """How what it launches says by whom."""
        return f"schedule: {self.name}"

    def clean(self) -> None:
        """Once or by a pattern, and a branch for what has one."""
        super().clean()
        if bool(self.cron) == bool(self.at):
            raise ValidationError({"cron": _("Give a cron pattern, or one moment.")})
        if self.branch:
            validate_ref_length(self.branch)
        if self.deployment_type in Deployment.WITHOUT_RELEASE:
            self.branch = ""

    def upcoming(self, after: datetime, number: int = 1) -> list[datetime]:
        """Its next moments after that one, in UTC."""
        if self.cron:
            return next_moments(self.cron, self.zone, after, number)
        return [self.at.astimezone(UTC)] if self.at is not None and self.at > after else []

    def plan(self, now: datetime | None = None) -> None:
        """Find out its next moment; what was missed until now is not made up for. It is not saved."""
        self.next_at = next(iter(self.upcoming(now or timezone.now())), None)

    def lacking_answers(self, questions: "list[Question]") -> list[str]:
        """The names of the questions that it would have to answer, and does not."""
        given: Mapping[str, Any] = self.answers or {}
        builds = self.deployment_type not in Deployment.WITHOUT_RELEASE
        asked = [question for question in questions if question.is_asked(builds=builds) and not question.default]
        return [question.name for question in asked if not given.get(question.name)]

    def pause(self, reason: str) -> bool:
        """Stop it until somebody resumes it. Says whether it was active."""
        values = {"is_active": False, "paused_reason": reason[:LONGEST_REASON]}
        won = Schedule.objects.filter(pk=self.pk, is_active=True).update(**values) == 1
        if won:
            self.__dict__ |= values
            trigger_paused.send_robust(Schedule, trigger=self, reason=reason)
        return won


class ScheduleRun(models.Model):
    """What became of one moment of a schedule, and why."""

    class Outcome(models.TextChoices):
        LAUNCHED = "launched", _("Launched")
        QUEUED = "queued", _("In line")
        SKIPPED = "skipped", _("Left out")
        MISSED = "missed", _("Missed")
        REFUSED = "refused", _("Refused")
        PAUSED = "paused", _("Paused")

    schedule = models.ForeignKey(
        Schedule, on_delete=models.CASCADE, related_name="runs", db_index=False, verbose_name=_("schedule")
    )
    planned_for = models.DateTimeField(_("planned for"))
    fired_at = models.DateTimeField(_("decided"), auto_now_add=True)
    outcome = models.CharField(_("outcome"), max_length=8, choices=Outcome)
    why = models.TextField(_("why"), blank=True)
    deployment = models.ForeignKey(
        Deployment, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("deployment")
    )

    class Meta:
        ordering: ClassVar = ["-planned_for"]
        verbose_name = _("moment of a schedule")
        verbose_name_plural = _("moments of schedules")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["schedule", "planned_for"], name="each_moment_of_a_schedule_once"),
        ]

    def __str__(self) -> str:
        return f"{self.schedule} {self.planned_for:%Y-%m-%d %H:%M}"

    #: Those that launched nothing, though it was their time.
    LEFT_OUT: ClassVar = frozenset({Outcome.SKIPPED, Outcome.MISSED, Outcome.REFUSED})

    def save(self, *args: Any, **options: Any) -> None:
        """Write it, and say where it launched nothing."""
        is_new = self._state.adding
        super().save(*args, **options)
        if is_new and self.outcome in self.LEFT_OUT:
            schedule_left_out.send_robust(ScheduleRun, run=self)

    @property
    def places(self) -> list[Place]:
        """Those of its schedule."""
        return self.schedule.places

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places
