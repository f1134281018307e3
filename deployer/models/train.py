"""Trains: several projects launched as one plan, each run of one with its stops, and what people decided about it."""

from collections.abc import Iterable
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from deployer.models.deployment import Deployment
from deployer.models.happenings import train_moved
from deployer.models.release import Release
from deployer.models.triggers import LONGEST_REASON
from people.models import Team, User
from people.now import Now
from people.rights import Person, reach
from people.roles import EVERYWHERE, Action, Place
from projects.models import Project
from projects.validators import LONGEST_PAUSE, validate_ref, validate_ref_length
from servers.fields import EncryptedJSONField
from servers.models import Environment, ServerGroup
from servers.validators import validate_one_line

#: Stops of one train, and how many of them may be under way at once.
MOST_STOPS, MOST_AT_ONCE = 50, 20


class Course(models.Model):
    """How a train goes: what is the same of a train and of each run of it, which keeps it as it was at its launch.

    ``pause_for`` is in seconds; with 0 it waits until somebody continues. ``at_once`` counts side by side alone.
    """

    class Mode(models.TextChoices):
        IN_ORDER = "in_order", _("In order")
        SIDE_BY_SIDE = "side_by_side", _("Side by side")

    class AtFailure(models.TextChoices):
        HALT = "halt", _("Halt, and wait for somebody")
        GO_ON = "go_on", _("Go on with the other stops")
        ROLL_BACK = "roll_back", _("Roll back what the train has switched")

    mode = models.CharField(_("order"), max_length=12, choices=Mode, default=Mode.IN_ORDER)
    at_once = models.PositiveSmallIntegerField(
        _("at once"),
        default=5,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_AT_ONCE)],
        help_text=_("Side by side: how many stops are under way at the same time."),
    )
    at_failure = models.CharField(_("when a stop fails"), max_length=9, choices=AtFailure, default=AtFailure.HALT)
    pauses = models.BooleanField(_("pause between stops"), default=False)
    pause_for = models.PositiveIntegerField(
        _("seconds of a pause"),
        default=0,
        validators=[MaxValueValidator(LONGEST_PAUSE)],
        help_text=_("0: until somebody continues."),
    )
    waits_at_gates = models.BooleanField(
        _("wait at a closed gate"),
        default=True,
        help_text=_("Otherwise a stop that is locked or frozen when its turn comes has failed."),
    )

    class Meta:
        abstract = True

    @property
    def is_in_order(self) -> bool:
        """Whether one stop follows the other."""
        return self.mode == self.Mode.IN_ORDER

    #: What a run takes over.
    COURSE: ClassVar = ("mode", "at_once", "at_failure", "pauses", "pause_for", "waits_at_gates")


class TrainQuerySet(models.QuerySet["Train"]):
    """Trains."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those with which ``user`` may do this: one is seen by any of its stops, and edited by all of them."""
        reached = reach(user, action)
        if reached.is_everywhere:
            return self
        inside = reached.condition("project__environment", "project")
        own = Stop.objects.filter(train=models.OuterRef("pk"))
        seen = self.filter(models.Exists(own.filter(inside)))
        if action is Action.SEE:
            return seen
        return seen.exclude(models.Exists(own.exclude(pk__in=Stop.objects.filter(inside).values("pk"))))


TrainManager = models.Manager.from_queryset(TrainQuerySet)


class Train(Course):
    """Several projects that are launched together. Its ``owner`` made it, and approves no run of it."""

    objects = TrainManager()
    UNRECORDED: ClassVar = frozenset[str]()

    name = models.CharField(_("name"), max_length=100, unique=True, validators=[validate_one_line])
    description = models.TextField(_("description"), blank=True, max_length=2000)
    owner = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("owner")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("train")
        verbose_name_plural = _("trains")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("train", args=[self.pk])

    @property
    def places(self) -> list[Place]:
        """Those of the projects of its stops; without any it is for those who may everywhere."""
        found = [place for stop in self.stops.all() for place in stop.project.places]
        return list(dict.fromkeys(found)) or [EVERYWHERE]

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    def clean(self) -> None:
        """A pause is between one stop and the next."""
        if self.pauses and not self.is_in_order:
            raise ValidationError({"pauses": _("Side by side there is no pause: choose that the stops go in order.")})


class Stop(models.Model):
    """A project of a train, where to, and what of it. What is empty is the project's default when it is launched.

    ``release`` is the version of a stored one; without it, and without a ``branch``, the default branch is deployed.
    """

    UNRECORDED: ClassVar = frozenset[str]()
    RECORDED_TOO: ClassVar = ("server_groups",)

    train = models.ForeignKey(Train, on_delete=models.CASCADE, related_name="stops", verbose_name=_("train"))
    position = models.PositiveIntegerField(_("position"), default=0)
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="train_stops", verbose_name=_("project")
    )
    server_groups = models.ManyToManyField(
        ServerGroup,
        blank=True,
        related_name="+",
        verbose_name=_("server groups"),
        help_text=_("Empty: where the project belongs."),
    )
    deployment_type = models.CharField(_("type"), max_length=20, choices=Deployment.Type, default=Deployment.Type.FULL)
    branch = models.CharField(
        _("branch"),
        max_length=100,
        blank=True,
        default="",
        validators=[validate_ref, validate_ref_length],
        help_text=_("Empty: the project's default."),
    )
    release = models.CharField(_("release"), max_length=300, blank=True, default="", validators=[validate_one_line])

    class Meta:
        ordering: ClassVar = ["position", "id"]
        verbose_name = _("stop")
        verbose_name_plural = _("stops")

    def __str__(self) -> str:
        project: Project | None = getattr(self, "project", None)  # a file may name one that is not there
        return project.name if project is not None else ""

    @property
    def places(self) -> list[Place]:
        """Those of its project."""
        return self.project.places

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    @property
    def builds(self) -> bool:
        """Whether a release may be built for it."""
        return self.deployment_type not in Deployment.WITHOUT_RELEASE and not self.release

    @property
    def what(self) -> str:
        """The branch or the release that is deployed, as far as it says one."""
        return self.release or self.branch

    def clean(self) -> None:
        """A branch or a release, and neither where nothing is deployed."""
        if self.branch and self.release:
            raise ValidationError({"release": _("Choose a branch or a release, not both.")})
        if self.what and self.deployment_type != Deployment.Type.FULL:
            raise ValidationError(
                {"deployment_type": _("Only a full deployment takes a branch or a release: leave both empty.")}
            )


class TrainRunQuerySet(models.QuerySet["TrainRun"]):
    """Runs of trains."""

    def update(self, **values: Any) -> int:
        """Also raises the revision, so that pages see the change."""
        return super().update(**values, revision=models.F("revision") + 1)

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those of which ``user`` sees a stop; for any other action, those where they may do this at all of them."""
        stops = TrainStop.objects.filter(run=models.OuterRef("pk"))
        inside = TrainStop.objects.reached_by(user, action)
        seen = self.filter(models.Exists(stops.filter(pk__in=inside.values("pk"))))
        return seen if action is Action.SEE else seen.exclude(models.Exists(stops.exclude(pk__in=inside.values("pk"))))

    def active(self) -> Self:
        """Those that have not ended."""
        return self.filter(finished_at=None)


TrainRunManager = models.Manager.from_queryset(TrainRunQuerySet)


class TrainRun(Course):
    """One run of a train.

    ::

        waiting → running → success, failed;  running ⇄ paused, halted;  waiting → expired
        running, paused, halted → rolling_back → rolled_back;  rolling_back ⇄ halted;  any → cancelled

    It has ended when ``finished_at`` is set. ``waiting``: a stop needs an approval, and one holds for the whole of it.
    ``halted``: a stop has failed, or somebody has halted it; a person decides. All of it is frozen at the launch. Where
    it is the next stop's turn, gates and rights are asked again; who drives it holds the row meanwhile, so that any
    process may and none does so twice. ``digest`` stands for all that the stops would do. ``is_by_machine``: whoever
    has the data folder launched it, for no user. ``paused_after`` is the stop behind which it paused last.
    """

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waits for approval")
        RUNNING = "running", _("Under way")
        PAUSED = "paused", _("Paused")
        HALTED = "halted", _("Halted")
        ROLLING_BACK = "rolling_back", _("Rolling back")
        SUCCESS = "success", _("Success")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        ROLLED_BACK = "rolled_back", _("Rolled back")
        EXPIRED = "expired", _("Expired")

    objects = TrainRunManager()

    train = models.ForeignKey(
        Train, on_delete=models.SET_NULL, null=True, blank=True, related_name="runs", verbose_name=_("train")
    )
    name = models.CharField(_("name"), max_length=100)
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.RUNNING)
    why = models.TextField(_("why"), blank=True)
    note = models.CharField(_("note"), max_length=LONGEST_REASON, blank=True, validators=[validate_one_line])
    created_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("created by")
    )
    owner = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("owner")
    )
    launched_for = models.CharField(_("launched for"), max_length=200, blank=True)
    trigger = models.CharField(_("trigger"), max_length=10, choices=Deployment.Trigger, default=Deployment.Trigger.WEB)
    is_by_machine = models.BooleanField(default=False, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    paused_after = models.PositiveIntegerField(default=0, editable=False)
    paused_until = models.DateTimeField(_("paused until"), null=True, blank=True)
    cancel_requested_at = models.DateTimeField(_("cancel requested"), null=True, blank=True)
    roll_back_requested_at = models.DateTimeField(_("roll back requested"), null=True, blank=True)
    roll_back_requested_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )
    revision = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("run of a train")
        verbose_name_plural = _("runs of trains")
        indexes: ClassVar = [
            models.Index(fields=["finished_at"], name="open_trains", condition=models.Q(finished_at=None)),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("train_run", args=[self.pk])

    @property
    def places(self) -> list[Place]:
        """Those of its stops."""
        return list(dict.fromkeys(place for stop in self.stops.all() for place in stop.places)) or [EVERYWHERE]

    @property
    def seen_from(self) -> list[Place]:
        """The same; what of it somebody sees is for `TrainStop.reached_by` to say."""
        return self.places

    @property
    def is_active(self) -> bool:
        """Whether it has not ended yet."""
        return self.finished_at is None

    @property
    def launched_by(self) -> str:
        """Who launched it: the user, else the login on the machine."""
        return self.created_by.get_username() if self.created_by else self.launched_for

    @property
    def label(self) -> str:
        """What its deployments say that they were launched for."""
        return f"train: {self.name}"

    def move(self, *former: "TrainRun.Status", **values: Any) -> bool:
        """Write ``values`` while it is one of ``former`` and has not ended. Says whether it won."""
        won = TrainRun.objects.active().filter(pk=self.pk, status__in=former).update(**values) == 1
        if won:
            self.refresh_from_db(fields=[*values])
            if values.get("status") in (self.Status.PAUSED, self.Status.HALTED):
                self.say()
        return won

    def end(self, status: "TrainRun.Status", why: str = "") -> bool:
        """Write the one end, and why. Says whether it won."""
        won = TrainRun.objects.active().filter(pk=self.pk).update(status=status, why=why, finished_at=Now()) == 1
        self.refresh_from_db(fields=["status", "why", "finished_at"])
        if won:
            self.say()
        return won

    def say(self) -> None:
        """Have those told who listen what it has come to."""
        train_moved.send_robust(TrainRun, run=self)


class TrainStopQuerySet(models.QuerySet["TrainStop"]):
    """Stops of runs."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those at which ``user`` may do this; also seen by those who are asked to approve it."""
        reached = reach(user, action)
        condition = reached.condition("environment", "project")
        if action is Action.SEE and not reached.is_everywhere and isinstance(user, User) and user.acting_token is None:
            teams = user.teams.through.objects.filter(user=user).values("team")
            asked = TrainStop.asked_teams.through.objects.filter(team__in=teams).values("trainstop")
            condition |= models.Q(pk__in=asked)
        return self.filter(condition)


TrainStopManager = models.Manager.from_queryset(TrainStopQuerySet)


class TrainStop(models.Model):
    """One stop of a run, as it was planned at the launch, and what became of it.

    ``groups`` are numbers and names of server groups, in their order. ``commit`` is what its branch led to, ``live``
    the releases that its servers (by number) had then. ``answers`` are those to the project's questions, by name.
    ``digest`` is what an approval of the run holds for here; it is empty once it holds for nothing any more.
    ``is_settled``: somebody has decided what its failure means for the run, so that it stops nothing any more.
    ``way_back_failed``: it could not be put back. Its deployments say by ``train_stop`` that they are of it.
    """

    class Status(models.TextChoices):
        WAITING = "waiting", _("To come")
        RUNNING = "running", _("Under way")
        ROLLING_BACK = "rolling_back", _("Rolling back")
        SUCCESS = "success", _("Success")
        SKIPPED = "skipped", _("Skipped")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        ROLLED_BACK = "rolled_back", _("Rolled back")

    #: Those that a deployment is at work for.
    AT_WORK: ClassVar = (Status.RUNNING, Status.ROLLING_BACK)
    #: Ends that a person, or the train's own rule, has to answer.
    BAD: ClassVar = (Status.FAILED, Status.CANCELLED)

    objects = TrainStopManager()

    run = models.ForeignKey(TrainRun, on_delete=models.CASCADE, related_name="stops", verbose_name=_("run"))
    position = models.PositiveIntegerField(_("position"))
    project = models.ForeignKey(
        Project, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("project")
    )
    project_name = models.CharField(max_length=200)
    environment = models.CharField(_("environment"), max_length=20, choices=Environment)
    groups = models.JSONField(default=list, editable=False)
    deployment_type = models.CharField(_("type"), max_length=20, choices=Deployment.Type)
    branch = models.CharField(_("branch"), max_length=100, blank=True)
    release = models.ForeignKey(
        Release, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("release")
    )
    release_version = models.CharField(max_length=300, blank=True, editable=False)
    commit = models.CharField(_("commit"), max_length=64, blank=True)
    commit_message = models.TextField(_("commit message"), blank=True)
    live = models.JSONField(default=dict, editable=False)
    digest = models.CharField(max_length=64, blank=True, editable=False)
    answers = EncryptedJSONField(null=True, editable=False)
    asks_approval = models.BooleanField(default=False, editable=False)
    asked_teams = models.ManyToManyField(Team, blank=True, related_name="+", editable=False)
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.WAITING)
    is_settled = models.BooleanField(default=False, editable=False)
    way_back_failed = models.BooleanField(default=False, editable=False)
    why = models.TextField(_("why"), blank=True)

    class Meta:
        ordering: ClassVar = ["position"]
        verbose_name = _("stop of a run")
        verbose_name_plural = _("stops of runs")
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "position"], name="one_stop_at_a_position")]

    def __str__(self) -> str:
        return f"{self.position}. {self.project_name}"

    @property
    def places(self) -> list[Place]:
        """Its project, in the environment that it had at the launch; where it is deleted, the environment."""
        return [Place(self.environment, self.project_id)]

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    @property
    def group_names(self) -> list[str]:
        """The names of its groups, as they were."""
        return [str(name) for _number, name in self.groups]

    @property
    def what(self) -> str:
        """The release or the branch that it is about; empty where only is restarted."""
        return self.release_version or self.branch

    @property
    def is_at_work(self) -> bool:
        """Whether a deployment of it is under way, or stands in line."""
        return self.status in self.AT_WORK

    @property
    def is_open(self) -> bool:
        """Whether its failure is still to be answered."""
        return self.status in self.BAD and not self.is_settled

    @property
    def is_done(self) -> bool:
        """Whether what it is for is there."""
        return self.status in (self.Status.SUCCESS, self.Status.SKIPPED)

    @property
    def keeps_release(self) -> bool:
        """Whether it leaves the release as it is."""
        return self.deployment_type in Deployment.WITHOUT_RELEASE

    def move(self, *former: "TrainStop.Status", **values: Any) -> bool:
        """Write ``values`` while it is one of ``former``. Says whether it won."""
        won = TrainStop.objects.filter(pk=self.pk, status__in=former).update(**values) == 1
        if won:
            self.__dict__ |= values
        return won


def stop_behind(it: Deployment) -> TrainStop | None:
    """The stop of a train that launched a deployment; nothing where somebody did, also where they tried it again."""
    stop: TrainStop | None = it.train_stop if it.train_stop_id and it.trigger == Deployment.Trigger.TRAIN else None
    return stop


class TrainApproval(models.Model):
    """What somebody has decided about a run: it holds for what had this ``digest``, and is never changed."""

    class Decision(models.TextChoices):
        APPROVED = "approved", _("Approved")
        REJECTED = "rejected", _("Rejected")

    run = models.ForeignKey(TrainRun, on_delete=models.CASCADE, related_name="approvals", verbose_name=_("run"))
    digest = models.CharField(max_length=64, editable=False)
    decision = models.CharField(_("decision"), max_length=10, choices=Decision)
    reason = models.CharField(_("reason"), max_length=LONGEST_REASON, blank=True, validators=[validate_one_line])
    decided_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("decided by")
    )
    decided_at = models.DateTimeField(_("decided"), auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("approval of a train")
        verbose_name_plural = _("approvals of trains")

    def __str__(self) -> str:
        return f"{self.run}: {self.get_decision_display()}"

    @property
    def places(self) -> Iterable[Place]:
        """Those of the run."""
        return self.run.places

    @property
    def seen_from(self) -> Iterable[Place]:
        """The same."""
        return self.places
