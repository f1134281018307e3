"""Deployments and their servers: what was asked for, how far it is, and every move from one state to the next."""

import secrets
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MinLengthValidator
from django.db import IntegrityError, models, transaction
from django.db.models.deletion import Collector
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from deployer.models.happenings import Happening, deployment_moved
from deployer.models.release import Release
from deployer.models.standing import renew_of_targets
from deployer.models.triggers import TriggerHold
from people.models import Team, User
from people.now import Now
from people.rights import Person, reach
from people.roles import Action, Place
from people.statements import KeptUpdate, Slot
from people.writes import end_at_a_standstill
from projects.models import Project
from projects.steps import Launched
from projects.validators import validate_ref, validate_ref_length
from servers.fields import DecryptionError, EncryptedJSONField
from servers.models import Environment, Server, ServerGroup
from servers.sentences import as_stored


def validated_branch(value: str) -> str:
    """``value`` if it can be the branch of a deployment (1 to 100 characters); raises `ValidationError`."""
    field = Deployment._meta.get_field("branch")
    if not value.strip():
        raise ValidationError(_("A full deployment needs a branch, a tag or a commit."))
    validate_ref_length(value)
    field.run_validators(value)
    return value


def lines_of_pushers(addresses: Iterable[str]) -> str:
    """What `Deployment.pushed_by` keeps of e-mail addresses: the first ones, each once; empty where there are none."""
    known = dict.fromkeys("".join(address.split()).lower()[:254] for address in addresses)
    lines = [address for address in known if address][: Deployment.MOST_PUSHERS]
    return "\n" + "".join(f"{address}\n" for address in lines) if lines else ""


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    """Deployments by whether they have ended."""

    def update(self, **values: Any) -> int:
        """Also raises the revision, so that pages see the change."""
        if not values.keys() <= Deployment.UNSEEN:
            values["revision"] = models.F("revision") + 1
        return super().update(**values)

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those with which ``user`` may do this: where they were made, whatever their projects are now."""
        reached = reach(user, action)
        condition = reached.condition("environment", "project")
        if action is Action.SEE and not reached.is_everywhere and isinstance(user, User) and user.acting_token is None:
            # Whoever may be asked to approve it sees it, whatever else they see.
            teams = user.teams.through.objects.filter(user=user).values("team")
            asked = Deployment.asked_teams.through.objects.filter(team__in=teams).values("deployment")
            condition |= models.Q(pk__in=asked)
        return self.filter(condition)

    def active(self) -> Self:
        """Those that have not ended."""
        return self.filter(finished_at=None)

    def in_line(self) -> Self:
        """Those that wait for their turn: behind another one, or at a gate."""
        return self.active().filter(status__in=Deployment.IN_LINE)

    def at_work(self) -> Self:
        """Those that have the place of the one active deployment of their project."""
        return self.active().exclude(status__in=Deployment.IN_LINE)

    def ended(self) -> Self:
        """Those that have ended, one way or another."""
        return self.exclude(finished_at=None)

    def running(self) -> Self:
        """Those that a worker has taken and not ended."""
        return self.active().exclude(status__in=Deployment.NOT_BEGUN)

    def paused(self) -> Self:
        """Those that wait, between two batches, until somebody continues."""
        return self.filter(status__in=Deployment.ROLLING_OUT).exclude(paused_at=None)

    def parked(self) -> Self:
        """Those that a worker has left in the database: they are nobody's until another one goes on."""
        return self.active().filter(status__in=Deployment.MAY_BE_PARKED, claim="").exclude(parked_at=None)

    def due(self) -> Self:
        """The parked ones that a worker has to go on with: they do not wait, or are to be cancelled, or out of time."""
        is_over = models.Q(paused_at=None) | models.Q(paused_until__lte=Now())
        return self.parked().filter(is_over | models.Q(cancel_requested_at__isnull=False))

    def pending(self) -> Self:
        """Those that no worker has taken yet."""
        return self.active().filter(status=Deployment.Status.PENDING)

    def newest(self) -> Self:
        """The newest of these for each project."""
        newest = self.order_by().values("project").annotate(newest=models.Max("id")).values("newest")
        return type(self)(self.model, using=self.db).filter(id__in=newest)

    def listed(self) -> Self:
        """As lists show them: newest first, with how many servers they have and how many of them went well.

        The servers are counted of those that a list shows, not of all before it takes some.
        """
        return (
            self.select_related("project", "created_by")
            .defer("plan")
            .annotate(servers=number_of_targets(), servers_done=number_of_targets(status="success"))
            .order_by("-id")
        )


def number_of_targets(**lookups: str) -> Coalesce:
    """How many servers the deployment of a row has."""
    targets = Target.objects.filter(deployment=models.OuterRef("pk"), **lookups).order_by()
    return Coalesce(models.Subquery(targets.values("deployment").annotate(n=models.Count("pk")).values("n")), 0)


DeploymentManager = models.Manager.from_queryset(DeploymentQuerySet)


class Deployment(models.Model):
    """One deployment of a project to groups of servers.

    ::

        full:          pending → cloning → building → deploying → success
                       pending → deploying                      → success (a release that is there already)
        restart_only:  pending → restarting                     → success
        stop:          pending → stopping                       → success
        start:         pending → starting                       → success
        all:           queued, waiting → pending; one leads to the other
            pending, queued, waiting → cancelled; waiting → expired; from any other: failed, cancelled, interrupted

    It has ended when ``finished_at`` is set. ``interrupted`` comes twice: while another worker asks the servers
    what is true after the first one was lost, and as the end where one of them could not tell. ``queued`` is behind
    another deployment or a closed gate, ``waiting`` for somebody's approval or for a proof: neither holds the place of
    the active one. ``note`` says why; ``waits_since`` is when it came to wait. ``asks_approval``: nobody has approved
    it yet, and a member of one of the ``asked_teams``, if there are any, has to. ``may_queue``: whoever launched it
    chose that it waits at a closed gate instead of being refused; ``stays_in_line``: no newer one of the same trigger
    takes its place, nor does it take that of an older one. ``pushed_by`` are the e-mail addresses, in lower case, of
    those who pushed what it is about, each in a line of its own that begins and ends with a line break: see
    `lines_of_pushers`.

    Every move is one conditional UPDATE that says whether it won, so two ends can never both be written. ``plan`` is
    the project's configuration frozen at launch (encrypted: it holds the variables); ``claim`` is the token of the
    worker that carries it out, ``heartbeat_at`` that worker's last sign of life by the database's clock.
    ``building_at`` and ``deploying_at`` are when those phases began, by the same clock; the first phase begins at
    ``started_at``. ``paused_at`` is since when it waits between two batches, ``paused_until`` when that ends without
    anybody; with ``asked_at`` it waits for the answer to its last `FailureQuestion`. ``parked_at``: it is nobody's
    meanwhile.
    ``batches_done`` and ``paused_after`` are the batches behind which it waited last, and paused last.
    ``roll_back_requested_at``: what it has switched is put back.
    ``progress`` is the line that its build has not ended yet. ``log_gone_at`` and ``evidence_gone_at`` are when its
    log, and what was kept of why its servers failed, were deleted because of their age.
    ``revision`` grows with every change of what pages show of it. ``tries`` is how many workers have set about it
    without having taken it.
    """

    #: What pages do not show: a change of these alone is none to them.
    UNSEEN: ClassVar = frozenset({"claim", "heartbeat_at", "plan", "tries"})
    #: How many workers may be lost with it before it has begun, or while they ask its servers what is true.
    MOST_TRIES = 3
    #: What is written when a pause is over.
    PAUSE_OVER: ClassVar = {"paused_at": None, "paused_until": None, "asked_at": None}

    class Type(models.TextChoices):
        FULL = "full", _("Full")
        RESTART_ONLY = "restart_only", _("Restart only")
        STOP = "stop", _("Stop")
        START = "start", _("Start")

    class Status(models.TextChoices):
        PENDING = "pending", _("Pending")
        CLONING = "cloning", _("Cloning")
        BUILDING = "building", _("Building")
        DEPLOYING = "deploying", _("Deploying")
        RESTARTING = "restarting", _("Restarting")
        SUCCESS = "success", _("Success")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        INTERRUPTED = "interrupted", _("Interrupted")
        QUEUED = "queued", _("In line")
        WAITING = "waiting", _("Waits for approval")
        EXPIRED = "expired", _("Expired")
        STOPPING = "stopping", _("Stopping")
        STARTING = "starting", _("Starting")

    #: Those that wait for their turn, and all that no worker has taken.
    IN_LINE: ClassVar = (Status.QUEUED, Status.WAITING)
    NOT_BEGUN: ClassVar = (Status.PENDING, *IN_LINE)
    #: Those during which servers are worked on, batch by batch.
    ROLLING_OUT: ClassVar = (Status.DEPLOYING, Status.RESTARTING, Status.STOPPING, Status.STARTING)
    #: What makes it nobody's until another worker goes on.
    PARKED: ClassVar[dict[str, Any]] = {"claim": "", "parked_at": Now(), "tries": 0}
    #: What one may be at that a worker leaves to another one: before its build, right behind it, or at a pause.
    MAY_BE_PARKED: ClassVar = (Status.CLONING, Status.BUILDING, *ROLLING_OUT)
    #: What the types are about that leave the release as it is.
    WITHOUT_RELEASE: ClassVar = {
        Type.RESTART_ONLY: Status.RESTARTING,
        Type.STOP: Status.STOPPING,
        Type.START: Status.STARTING,
    }

    class Trigger(models.TextChoices):
        WEB = "web", _("Web")
        API = "api", _("API")
        CLI = "cli", _("Command line")
        WEBHOOK = "webhook", _("Webhook")
        SCHEDULE = "schedule", _("Schedule")
        TRAIN = "train", _("Train")

    #: Those that nobody launches by hand, and of which the newest counts.
    AUTOMATIC: ClassVar = (Trigger.WEBHOOK, Trigger.SCHEDULE)
    #: How many addresses of those who pushed are kept of one.
    MOST_PUSHERS = 50

    objects = DeploymentManager()

    project = models.ForeignKey(
        Project, on_delete=models.PROTECT, related_name="deployments", verbose_name=_("project")
    )
    branch = models.CharField(_("branch"), max_length=100, blank=True, validators=[MinLengthValidator(1), validate_ref])
    deployment_type = models.CharField(_("type"), max_length=20, choices=Type, default=Type.FULL)
    status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.PENDING)
    environment = models.CharField(_("environment"), max_length=20, choices=Environment)
    server_groups = models.ManyToManyField(ServerGroup, related_name="deployments", verbose_name=_("server groups"))
    commit_hash = models.CharField(_("commit"), max_length=64, blank=True)
    commit_message = models.TextField(_("commit message"), blank=True)
    error_message = models.TextField(_("error"), blank=True)
    created_by = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="deployments",
        verbose_name=_("created by"),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    building_at = models.DateTimeField(_("build started"), null=True, blank=True, editable=False)
    deploying_at = models.DateTimeField(_("upload started"), null=True, blank=True, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    rollback_from = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="rollbacks",
        verbose_name=_("rollback of"),
    )
    rebuild = models.BooleanField(
        _("build again"), default=False, help_text=_("Even if a release of the same commit and settings is stored.")
    )
    retry_of = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="retries",
        verbose_name=_("retry of"),
    )
    release = models.ForeignKey(
        Release,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="deployments",
        verbose_name=_("release"),
    )
    trigger = models.CharField(_("trigger"), max_length=10, choices=Trigger, default=Trigger.WEB)
    launched_for = models.CharField(
        _("launched for"),
        max_length=200,
        blank=True,
        help_text=_("The webhook, the schedule, or the login on the machine that asked for it."),
    )
    webhook = models.ForeignKey(
        "deployer.Webhook",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="deployments",
        verbose_name=_("webhook"),
    )
    train_stop = models.ForeignKey(
        "deployer.TrainStop",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="deployments",
        verbose_name=_("stop of a train"),
    )
    schedule = models.ForeignKey(
        "deployer.Schedule",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="deployments",
        verbose_name=_("schedule"),
    )
    note = models.TextField(_("note"), blank=True)
    asks_approval = models.BooleanField(default=False, editable=False)
    asked_teams = models.ManyToManyField(Team, blank=True, related_name="+", editable=False)
    may_queue = models.BooleanField(default=False, editable=False)
    stays_in_line = models.BooleanField(default=False, editable=False)
    pushed_by = models.TextField(default="", blank=True, editable=False)
    waits_since = models.DateTimeField(null=True, editable=False)
    cancel_requested_at = models.DateTimeField(_("cancel requested"), null=True, blank=True)
    force_requested_at = models.DateTimeField(_("force requested"), null=True, blank=True)
    paused_at = models.DateTimeField(_("paused"), null=True, blank=True)
    paused_until = models.DateTimeField(_("paused until"), null=True, blank=True)
    asked_at = models.DateTimeField(_("asked"), null=True, blank=True)
    parked_at = models.DateTimeField(_("parked"), null=True, blank=True)
    batches_done = models.PositiveIntegerField(default=0, editable=False)
    paused_after = models.PositiveIntegerField(default=0, editable=False)
    roll_back_requested_at = models.DateTimeField(_("roll back requested"), null=True, blank=True)
    progress = models.CharField(max_length=100, default="", blank=True, editable=False)
    log_gone_at = models.DateTimeField(null=True, editable=False)
    evidence_gone_at = models.DateTimeField(null=True, editable=False)
    heartbeat_at = models.DateTimeField(_("last sign of life"), null=True, blank=True)
    claim = models.CharField(max_length=32, blank=True, editable=False)
    plan = EncryptedJSONField(null=True, editable=False)
    tries = models.PositiveSmallIntegerField(default=0, editable=False)
    revision = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("deployment")
        verbose_name_plural = _("deployments")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "environment"],
                # Deployments with these two statuses stand in line beside an active one.
                condition=models.Q(finished_at=None) & ~models.Q(status__in=["queued", "waiting"]),
                name="one_active_deployment_of_a_project",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["project", "-id"], name="deployment_of_project"),
            models.Index(fields=["status", "-id"], name="deployment_by_status"),
            models.Index(
                fields=["finished_at", "project"], name="open_deployments", condition=models.Q(finished_at=None)
            ),
        ]

    #: The claim of a worker that only helps the one that carries it out: see `Slice`.
    helper = ""

    def __str__(self) -> str:
        return f"#{self.pk} {self.project}"

    def get_absolute_url(self) -> str:
        return reverse("deployment", args=[self.pk])

    @property
    def places(self) -> list[Place]:
        """Its project, in the environment that it was made for."""
        return [Place(self.environment, self.project_id)]

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    @property
    def launched_by(self) -> str:
        """Who launched it: the user, else the webhook, schedule or login; empty where neither is known."""
        return self.created_by.get_username() if self.created_by else self.launched_for

    @property
    def is_automatic(self) -> bool:
        """Whether a webhook or a schedule has launched it."""
        return self.trigger in self.AUTOMATIC

    def was_pushed_by(self, user: User) -> bool:
        """Whether it is about what this person has pushed, by the e-mail address."""
        return bool(user.email) and f"\n{user.email.lower()}\n" in self.pushed_by

    @property
    def is_active(self) -> bool:
        """Whether it has not ended yet."""
        return self.finished_at is None

    @property
    def is_in_line(self) -> bool:
        """Whether it waits for its turn: behind another one, or at a gate."""
        return self.finished_at is None and self.status in self.IN_LINE

    @property
    def is_paused(self) -> bool:
        """Whether it waits, between two batches, until somebody continues."""
        return self.paused_at is not None and self.status in self.ROLLING_OUT

    @property
    def is_asking(self) -> bool:
        """Whether it waits for an answer to what became of its servers."""
        return self.is_paused and self.asked_at is not None

    @property
    def has_plan(self) -> bool:
        """Whether there is a plan, and it can be read."""
        try:
            return bool(self.plan)
        except DecryptionError:
            return False

    @property
    def obstacle(self) -> str:
        """Why a server that it counts on cannot be deleted now, as a sentence."""
        return gettext("Deployment %s is still running and needs it: wait for it to finish, or cancel it.") % self

    @property
    def is_restart_only(self) -> bool:
        return self.deployment_type == self.Type.RESTART_ONLY

    @property
    def is_stop(self) -> bool:
        return self.deployment_type == self.Type.STOP

    @property
    def keeps_release(self) -> bool:
        """Whether it leaves the release as it is: it only restarts, stops or starts the application."""
        return self.deployment_type in self.WITHOUT_RELEASE

    @property
    def is_to_build(self) -> bool:
        """Whether its release is not there yet."""
        return self.deployment_type == self.Type.FULL and self.release_id is None

    @property
    def launched_as(self) -> str:
        """What was launched, as steps tell it apart; a retry is what it repeats. No step is for a stop or a start."""
        first = self
        while first.retry_of is not None:
            first = first.retry_of
        if first.keeps_release:
            return first.deployment_type
        return Launched.ROLLBACK if first.rollback_from_id else Launched.FULL

    @property
    def first_running_status(self) -> "Deployment.Status":
        """The status that follows ``pending``."""
        if status := self.WITHOUT_RELEASE.get(self.Type(self.deployment_type)):
            return status
        return self.Status.DEPLOYING if self.release_id else self.Status.CLONING

    def claim_for_worker(self, claim: str = "") -> bool:
        """Take it from ``pending`` for the calling worker, which may name its ``claim``.

        Returns whether it won: a deployment runs once.
        """
        token = claim or secrets.token_hex(16)
        status = self.first_running_status
        began = {"started_at": Now()} | ({"deploying_at": Now()} if status == self.Status.DEPLOYING else {})
        taken = {"status": status, "claim": token, "heartbeat_at": Now(), "tries": 0}
        won = self._rows().pending().update(**taken, **began) == 1
        if won:
            self.claim, self.status = token, status
        return won

    def declare_lost(self, why: str, last_sign: datetime | None = None) -> bool:
        """Take it from the worker that holds the claim read with this row: nothing it still does counts any more.

        It is ``interrupted``, and nobody's, until a worker asks the servers what is true. Says whether it won: where
        ``last_sign`` is given, it does not against a worker that has shown a sign of life after that.
        """
        rows = self.held() if last_sign is None else self.held().filter(heartbeat_at__lte=last_sign)
        won = rows.update(status=self.Status.INTERRUPTED, claim="", heartbeat_at=Now(), error_message=why) == 1
        if won:
            self.claim, self.status, self.error_message = "", self.Status.INTERRUPTED, why
        return won

    def claim_to_settle(self, claim: str = "") -> bool:
        """Take an interrupted one that is nobody's for the calling worker, as above. Says whether it won."""
        token = claim or secrets.token_hex(16)
        rows = self._rows().running().filter(status=self.Status.INTERRUPTED, claim="")
        won = rows.update(claim=token, heartbeat_at=Now()) == 1
        if won:
            self.claim = token
        return won

    def claim_parked(self, claim: str = "") -> bool:
        """Take a parked one that is `due` for the calling worker, as above. Says whether it won."""
        token = claim or secrets.token_hex(16)
        won = self._rows().due().update(claim=token, heartbeat_at=Now(), parked_at=None, tries=0) == 1
        if won:
            self.claim = token
        return won

    @classmethod
    def count_try(cls, pk: int) -> None:
        """Write that a worker sets about it, if it is nobody's, and does not wait for somebody."""
        free = cls.objects.active().filter(pk=pk, claim="", tries__lt=cls.MOST_TRIES)
        begins = models.Q(parked_at=None) | models.Q(pk__in=cls.objects.due().values("pk"))
        free.filter(begins).update(tries=models.F("tries") + 1)

    def give_up(self, why: str) -> bool:
        """End it without another try, if it is nobody's. Says whether it won.

        One that was never begun has failed; one that was interrupted stays so. What one that was parked has not begun
        is left out.
        """
        begun = self.status not in self.NOT_BEGUN
        is_parked = self.parked_at is not None
        status = self.Status.INTERRUPTED if begun else self.Status.FAILED
        end = Target.Status.UNKNOWN if begun and not is_parked else Target.Status.SKIPPED
        rows = self._rows().active().filter(claim="", status=self.status)
        with transaction.atomic():
            won = rows.update(status=status, error_message=why, finished_at=Now(), **self.PAUSE_OVER) == 1
            if won:
                self.slices.all().delete()
                self._give_up_targets(why, end, is_at_rest=not begun or is_parked)
                self._hold_triggers()
                self._say(Happening.ENDED)
        self.refresh_from_db(fields=["status", "error_message", "finished_at"])
        return won

    def _give_up_targets(self, why: str, end: "Target.Status", *, is_at_rest: bool) -> None:
        error = gettext("Not started: %s") % why if is_at_rest else why
        left = self.targets.exclude(status__in=Target.ENDED)
        left.update(status=end, error=error, finished_at=Now())
        self.step_runs.filter(status="running").update(status="unknown", problem=error, finished_at=Now())
        drained = self.targets.filter(kept_out="", step_runs__moment="before").exclude(step_runs__moment="after")
        Target.objects.filter(pk__in=drained.values("pk")).update(kept_out=error)

    def _say(self, what: Happening) -> None:
        """Say what it has come to, in the transaction of that move, to whoever tells people."""
        deployment_moved.send_robust(Deployment, deployment=self, what=what)

    def move(self, status: "Deployment.Status") -> bool:
        """Go on to the next running status and write when; only the worker that holds the claim can."""
        moments = {self.Status.BUILDING: "building_at", self.Status.DEPLOYING: "deploying_at"}
        began: dict[str, Any] = {moments[status]: Now()} if status in moments else {}
        won = self.held().update(status=status, **began) == 1
        if won:
            self.status = status
        return won

    def beat(self) -> bool:
        """Record a sign of life. False: it has ended or was taken away, and nothing more may be done."""
        return self.held().update(heartbeat_at=Now()) == 1

    def pause(self, batch: int = 1, seconds: int = 0) -> bool:
        """Wait, after a batch, until somebody continues, or for some time. Only the worker that holds the claim can."""
        until = Now() + timedelta(seconds=seconds) if seconds else None
        values = {"paused_at": Now(), "paused_until": until, "paused_after": batch, "batches_done": batch}
        with transaction.atomic():
            won = self.held().update(**values) == 1
            if won and not seconds:
                self._say(Happening.PAUSED)
        return won

    def continue_rollout(self) -> bool:
        """Go on after a pause. Says whether it was paused; one that is to be cancelled, or asks, is not continued."""
        rows = self._rows().running().exclude(paused_at=None).filter(asked_at=None, cancel_requested_at=None)
        return rows.update(**self.PAUSE_OVER) == 1

    def continue_in_time(self) -> bool:
        """The same, where its time is up."""
        rows = self._rows().active().paused().filter(asked_at=None, cancel_requested_at=None)
        return rows.filter(paused_until__lte=Now()).update(**self.PAUSE_OVER) == 1

    def park(self) -> bool:
        """Be nobody's as long as it waits. Only the worker that holds the claim can; says whether it won."""
        rows = self.held().paused().filter(cancel_requested_at=None)
        return rows.update(**self.PARKED) == 1

    def hand_over(self) -> bool:
        """Be nobody's until another worker goes on at once. Only the worker that holds the claim can, as above."""
        return self.held().filter(paused_at=None).update(**self.PARKED) == 1

    def park_for_lost(self, last_sign: datetime | None) -> bool:
        """Park it for its worker, which is gone: while it waits, nothing is at work. Says whether it won, as above."""
        rows = self.held().paused()
        if last_sign is not None:
            rows = rows.filter(heartbeat_at__lte=last_sign)
        return rows.update(**self.PARKED) == 1

    def end(self, status: "Deployment.Status", error: str = "") -> bool:
        """Write the one final status, and why, under this worker's claim. A second call changes nothing.

        Where it has put servers back, what launches by itself is held from the same moment.
        """
        ended = {"status": status, "error_message": error, "finished_at": Now(), **self.PAUSE_OVER}
        with transaction.atomic():
            won = self.held().update(**ended) == 1
            if won:
                self._hold_triggers()
                self._say(Happening.ENDED)
        self.refresh_from_db(fields=["status", "error_message", "finished_at"])
        return won

    def _hold_triggers(self) -> None:
        """Hold what launches the project by itself, where servers were put back: it would undo that."""
        undone = models.Q(status=Target.Status.ROLLED_BACK) | models.Q(proof__has_key="undone")
        if self.targets.filter(undone).exists():
            with as_stored():
                why = str(_("Deployment #%d has put servers back.")) % self.pk
            TriggerHold.objects.begin(self.project, why, deployment=self)

    def request_cancel(self, *, force: bool = False, roll_back: bool = False) -> bool:
        """Ask it to stop; ``force``: also end scripts running on servers. Returns whether it was active.

        ``roll_back``: also put back what it has switched. One that no worker has taken is cancelled at once.
        """
        cancelled = self._end_before(self.Status.CANCELLED, cancel_requested_at=Now())
        values: dict[str, Any] = {"cancel_requested_at": Coalesce("cancel_requested_at", Now())}
        if force:
            values["force_requested_at"] = Coalesce("force_requested_at", Now())
        if roll_back:
            values["roll_back_requested_at"] = Coalesce("roll_back_requested_at", Now())
        won = bool(cancelled) or self._rows().running().update(**values) == 1
        wishes = ["cancel_requested_at", "force_requested_at", "roll_back_requested_at"]
        self.refresh_from_db(fields=["status", "finished_at", *wishes])
        return won

    def stand_in_line(self, status: "Deployment.Status", note: str, *, asks_approval: bool) -> bool:
        """Wait for its turn, as long as no worker has taken it. Says whether anything of this is new."""
        values: dict[str, Any] = {"status": status, "note": note, "asks_approval": asks_approval}
        if all(getattr(self, name) == value for name, value in values.items()):
            return False
        if self.status != status and status == self.Status.WAITING:
            values["waits_since"] = Now()
        with transaction.atomic():
            won = self._rows().active().filter(status=self.status, claim="").update(**values) == 1
            if won and asks_approval and not self.asks_approval:
                self._say(Happening.WAITS)
        if won:
            self.refresh_from_db(fields=[*values])
        return won

    def take_turn(self, note: str) -> bool:
        """Leave the line for the place of the active one. Says whether it won: another one may have it."""
        values = {"status": self.Status.PENDING, "note": note, "asks_approval": False, "tries": 0}
        try:
            with transaction.atomic():
                won = self._rows().in_line().update(**values) == 1
        except IntegrityError:
            return False
        if won:
            self.refresh_from_db(fields=["status", "note", "asks_approval"])
        return won

    def end_in_line(self, status: "Deployment.Status", why: str) -> bool:
        """End it before it began, and say why. Says whether it won."""
        error = why if status == self.Status.CANCELLED else ""
        won = self._end_before(status, note=why, error_message=error, asks_approval=False)
        self.refresh_from_db(fields=["status", "note", "asks_approval", "error_message", "finished_at"])
        return won

    def _end_before(self, status: "Deployment.Status", **values: Any) -> bool:
        """End it and leave its servers out, if no worker has taken it. Says whether it won."""
        rows = self._rows().active().filter(status__in=self.NOT_BEGUN)
        with transaction.atomic():
            won = rows.update(status=status, finished_at=Now(), **values) == 1
            if won:
                with as_stored():
                    why = str(_("Cancelled before it started."))
                left = self.targets.exclude(status__in=Target.ENDED)
                left.update(status=Target.Status.CANCELLED, error=why, finished_at=Now())
                self._say(Happening.ENDED)
        return won

    def _rows(self) -> DeploymentQuerySet:
        return Deployment.objects.filter(pk=self.pk)

    @property
    def hand(self) -> str:
        """The claim of the worker at hand, whether it carries this out or helps."""
        return self.helper or self.claim

    def lock(self) -> None:
        """Let nobody else write this row until the transaction at hand has ended, or stands still."""
        end_at_a_standstill()
        self._rows().select_for_update(no_key=True).values_list("pk").first()

    def held(self) -> DeploymentQuerySet:
        """This deployment, while it runs under the claim of this object; for a helper, while it also has a share."""
        rows = self._rows().running().filter(claim=self.claim)
        if self.helper:
            share = {"helper": self.helper, "coordinator": self.claim, "lost_at": None, "done_at": None}
            rows = rows.filter(**{f"slices__{name}": value for name, value in share.items()})
        return rows


def null_once_ended(
    collector: Collector, field: "models.Field[Any, Any]", targets: "models.QuerySet[Target]", using: str
) -> None:
    """Let a server be deleted, and its part in deployments stay, unless one of those has not ended."""
    holders = Deployment.objects.using(using).active().filter(targets__in=targets).defer("plan")
    held: set[models.Model] = {*holders.select_related("project")}
    if held:
        raise models.ProtectedError("A deployment that has not ended goes to the server.", held)
    # One that is launched from here on keeps its server: the database then refuses the deletion.
    models.SET_NULL(collector, field, targets.exclude(deployment__finished_at=None), using)


# Migrations name it, and are never edited: they do so by a path that stays when this file does not.
null_once_ended.__module__ = "deployer.models"
null_once_ended.lazy_sub_objs = True  # type: ignore[attr-defined]  # as Django's own SET_NULL has it: nothing is loaded


class TargetQuerySet(models.QuerySet["Target"]):
    """Servers of deployments."""

    def kept_out(self) -> Self:
        """Those that are still drained, by the index of them, which SQLite takes for these very words alone."""
        return self.filter(RawSQL("NOT (deployer_target.kept_out = '')", (), models.BooleanField()))

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those of the deployments with which ``user`` may do this."""
        return self.filter(reach(user, action).condition("deployment__environment", "deployment__project"))

    def update(self, **values: Any) -> int:
        """Also raises the revision, so that pages see the change, and renews what is kept of the servers."""
        if not _is_left(values, values.get("status")):
            return self.write(**values)
        with transaction.atomic():
            ids = list(self.values_list("pk", flat=True))
            changed = self.write(**values)
            renew_of_targets(ids)
        return changed

    def write(self, **values: Any) -> int:
        """The same, but for what is kept of the servers."""
        return super().update(**values, revision=models.F("revision") + 1)


def _is_left(names: Collection[str], status: Any) -> bool:
    """Whether a change of ``names`` and to ``status`` changes what a deployment leaves on a server: see `Standing`."""
    return not Target.LEFT.isdisjoint(names) or status == Target.Status.SKIPPED


TargetManager = models.Manager.from_queryset(TargetQuerySet)


class Target(models.Model):
    """One server of one deployment: what was done there and how it ended.

    An end stays, but for a rollback that follows it: then ``status`` and ``error`` say how that ended. ``exit_code`` is
    that of the script that ran last, null where none was recorded. ``proof`` is the evidence that the process was
    replaced: ``{"verdict": ..., "name": ..., "before": [...], "after": [...], "reloads": ..., "sentence": ...}`` (the
    sentence as it was told then); ``undone`` is who it was before a rollback, unless that ended well. ``evidence`` is
    what the server showed when it failed: the application's log, its unit, who listens. ``run_key`` names the private
    folder of its run on the server, so that it is found again and never started twice; ``undo_key`` is that of the run
    that rolls it back, written before that begins and taken away once it has failed. ``stdout_logged`` and
    ``stderr_logged`` are how many bytes of the output of the latest of the two are in the log, written with its lines.
    ``progress`` is how far an upload is, in words, and then the line that its script has not ended yet. ``staged_at``
    is when the upload was whole, ``begun_at`` when its turn came (the switch, or the restart where there is none),
    ``checking_at`` when its script had ended. ``revision`` grows with every change. ``same_as`` is the server of the
    same deployment that is the same machine and folder under another name: the work is done there, and what becomes of
    it holds here too. ``kept_out`` says why it stays drained: its steps before have begun, and those after are not
    done. ``release_at_launch`` is the release that was known to run there when it was launched; ``release_before`` is
    the one that was found there.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("Waiting")
        STAGING = "staging", _("Uploading")
        STAGED = "staged", _("Uploaded")
        SWITCHING = "switching", _("Switching")
        RESTARTING = "restarting", _("Restarting")
        STOPPING = "stopping", _("Stopping")
        STARTING = "starting", _("Starting")
        CHECKING = "checking", _("Checking")
        SUCCESS = "success", _("Success")
        FAILED = "failed", _("Failed")
        UNCHANGED = "unchanged", _("Unchanged")
        ROLLED_BACK = "rolled_back", _("Rolled back")
        SKIPPED = "skipped", _("Skipped")
        CANCELLED = "cancelled", _("Cancelled")
        UNKNOWN = "unknown", _("Unknown")

    ENDED: ClassVar = frozenset(
        {
            Status.SUCCESS,
            Status.FAILED,
            Status.UNCHANGED,
            Status.ROLLED_BACK,
            Status.SKIPPED,
            Status.CANCELLED,
            Status.UNKNOWN,
        }
    )
    #: What is written down when a server comes to a status for the first time.
    MOMENTS: ClassVar = {
        Status.STAGED: "staged_at",
        Status.SWITCHING: "begun_at",
        Status.RESTARTING: "begun_at",
        Status.STOPPING: "begun_at",
        Status.STARTING: "begun_at",
        Status.CHECKING: "checking_at",
    }
    #: During these its script may run.
    AT_ITS_SCRIPT: ClassVar = frozenset({Status.RESTARTING, Status.STOPPING, Status.STARTING})
    #: What is true of a machine and its folder under each of its names.
    SHARED: ClassVar = (
        *("status", "exit_code", "release_before", "release_after", "proof"),
        *("started_at", "staged_at", "begun_at", "checking_at", "finished_at"),
    )
    #: What a `Standing` is read from.
    LEFT: ClassVar = frozenset({"started_at", "begun_at", "release_after", "proof"})
    #: Ends that count against the failure budget.
    FAILURES: ClassVar = frozenset({Status.FAILED, Status.UNCHANGED, Status.UNKNOWN})

    objects = TargetManager()

    deployment = models.ForeignKey(
        Deployment,
        on_delete=models.CASCADE,
        related_name="targets",
        db_index=False,
        verbose_name=_("deployment"),
    )
    server = models.ForeignKey(
        Server,
        on_delete=null_once_ended,
        null=True,
        blank=True,
        related_name="targets",
        db_index=False,
        verbose_name=_("server"),
    )
    server_name = models.CharField(_("server"), max_length=100)
    host = models.CharField(_("host"), max_length=300)
    batch = models.PositiveIntegerField(_("batch"), default=1)
    status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.PENDING)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    staged_at = models.DateTimeField(_("uploaded"), null=True, blank=True, editable=False)
    begun_at = models.DateTimeField(_("turn began"), null=True, blank=True, editable=False)
    checking_at = models.DateTimeField(_("script ended"), null=True, blank=True, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    exit_code = models.IntegerField(_("exit status"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    release_at_launch = models.CharField(max_length=300, default="", blank=True, editable=False)
    release_before = models.CharField(_("release before"), max_length=300, blank=True)
    release_after = models.CharField(_("release after"), max_length=300, blank=True)
    proof = models.JSONField(_("proof"), default=dict, blank=True)
    evidence = models.TextField(_("evidence"), blank=True)
    progress = models.CharField(_("progress"), max_length=100, blank=True)
    kept_out = models.TextField(_("kept out"), blank=True, editable=False)
    run_key = models.CharField(max_length=32, default="", editable=False)
    undo_key = models.CharField(max_length=32, default="", editable=False)
    same_as = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="other_names"
    )
    stdout_logged = models.PositiveBigIntegerField(default=0, editable=False)
    stderr_logged = models.PositiveBigIntegerField(default=0, editable=False)
    revision = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering: ClassVar = ["batch", "id"]
        verbose_name = _("server of a deployment")
        verbose_name_plural = _("servers of a deployment")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "server"], name="server_once_in_a_deployment"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["deployment", "revision"], name="target_revisions"),
            models.Index(fields=["server", "-id"], name="deployments_of_server"),
            models.Index(fields=["server"], name="targets_kept_out", condition=~models.Q(kept_out="")),
        ]

    @property
    def places(self) -> list[Place]:
        """Those of its deployment."""
        return self.deployment.places

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    def __str__(self) -> str:
        return self.server_name

    def save(self, *args: Any, **options: Any) -> None:
        """Write it, and what is kept of its server."""
        super().save(*args, **options)
        if self.started_at is not None:
            renew_of_targets([self.pk])

    @property
    def has_ended(self) -> bool:
        """Whether its end is known."""
        return self.status in self.ENDED

    @property
    def has_failed(self) -> bool:
        """Whether it counts against the failure budget: one that had failed does so when it was rolled back, too."""
        return self.status in self.FAILURES or (self.status == self.Status.ROLLED_BACK and not self.was_put_back)

    @property
    def was_put_back(self) -> bool:
        """Whether it had gone well, and was rolled back because others had failed."""
        return self.status == self.Status.ROLLED_BACK and not self.error

    @property
    def reason(self) -> str:
        """Why it ended as it did, as far as there is anything to say."""
        if self.was_put_back and self.deployment.roll_back_requested_at is not None:
            return gettext("It had succeeded, and was put back because somebody chose to roll back.")
        if self.was_put_back:
            return gettext("It had succeeded, and was put back because more servers failed than are allowed to.")
        return self.error

    @property
    def was_undone(self) -> bool:
        """Whether it was put back on its previous release, or that was begun and did not end well."""
        return self.status == self.Status.ROLLED_BACK or "undone" in self.proof

    @property
    def is_at_its_script(self) -> bool:
        """Whether its script may be running."""
        return self.status in self.AT_ITS_SCRIPT

    @property
    def has_stopped(self) -> bool:
        """Whether it has stopped the application there on purpose, and that was proved."""
        return self.deployment.is_stop and self.status == self.Status.SUCCESS

    def those_before(self, most: int) -> "list[Target]":
        """The same server in earlier deployments of the project that changed it, the latest first."""
        rows = Target.objects.filter(server=self.server_id, deployment__project=self.deployment.project_id)
        rows = rows.exclude(begun_at=None).exclude(status=self.Status.SKIPPED).filter(pk__lt=self.pk)
        return list(rows.select_related("deployment").defer("deployment__plan", "evidence").order_by("-pk")[:most])

    @property
    def was_left_out(self) -> bool:
        """Whether it was left out at the launch: the server was not active."""
        return self.status == self.Status.SKIPPED and self.finished_at is None

    def move(self, status: "Target.Status", **values: Any) -> bool:
        """Go on to ``status`` unless it has ended. Says whether it won.

        A worker that has lost its claim moves nothing: the deployment must still be running under it.
        """
        moments = ["finished_at"] if status in self.ENDED else []
        if not moments and self.status == self.Status.PENDING:
            moments.append("started_at")
        if moment := self.MOMENTS.get(status):
            moments.append(moment)
        values["status"] = status

        def write() -> bool:
            claim, helper = self.deployment.claim, self.deployment.helper
            move = _kept_move((*values,), (*moments,), bool(helper))
            run = {"pk": self.pk, "deployment": self.deployment_id, "claim": claim, "helper": helper}
            return move.run(**values, **run) == 1

        won = self._kept(write, [*values, *moments], status)
        if won:
            self.__dict__ |= values
            for moment in moments:  # the database's clock: read when somebody asks
                self.__dict__.pop(moment, None)
        return won

    def begin_again(self, status: "Target.Status", key: str) -> bool:
        """Take back how it ended, for its turn to come once more: only where somebody chose so. Says whether it won.

        What was live before stays what it is put back on.
        """
        values: dict[str, Any] = {"status": status, "error": "", "finished_at": None, "evidence": "", "kept_out": ""}
        if status != self.Status.CHECKING:
            values |= {"run_key": key, "exit_code": None, "proof": {}, "stdout_logged": 0, "stderr_logged": 0}
            values |= {"checking_at": None}
        won = self._written(self._ended_here().exclude(status=self.Status.UNKNOWN), **values)
        self.refresh_from_db(fields=[*values])
        return won

    def set_aside(self, error: str) -> bool:
        """Write that the others go on without this server, whose work had ended badly. Says whether it won."""
        return self._end_again(status=self.Status.SKIPPED, error=error)

    def share(self, other: "Target", error: str) -> bool:
        """Take over what became of ``other``, the same machine and folder under another name. Says whether it won.

        ``error`` says so. It is done again where ``other`` is put back on its previous release.
        """
        done = Target.objects.values(*self.SHARED).get(pk=other.pk)
        rows = Target.objects.filter(pk=self.pk, deployment__in=self.deployment.held())
        news = rows.exclude(status=done["status"], release_after=done["release_after"])
        won = self._written(news, error=error, **done)
        self.refresh_from_db(fields=["error", *self.SHARED])
        return won

    def begin_rollback(self, key: str, proof: dict[str, Any]) -> bool:
        """Write that this server, whose work had ended, is about to be put back. Says whether it won."""
        values = {"undo_key": key, "proof": proof, "stdout_logged": 0, "stderr_logged": 0}
        won = self._written(self._ended_here(), **values)
        self.refresh_from_db(fields=[*values])
        return won

    def record_switch_back(self, version: str) -> bool:
        """Write that ``version`` is live again on this server, whatever becomes of its restart. Says whether it won."""
        won = self._written(self._ended_here(), release_after=version)
        self.refresh_from_db(fields=["release_after"])
        return won

    def record_rollback(self, version: str, proof: dict[str, Any]) -> bool:
        """Write that this server, whose work had ended, was put back on ``version``. Says whether it won."""
        return self._end_again(status=self.Status.ROLLED_BACK, release_after=version, proof=proof)

    def record_failed_rollback(self, status: "Target.Status", error: str, **values: Any) -> bool:
        """Write that putting this server back, once its work had ended, failed, and why. Says whether it won.

        The key of that run goes: it is over, and no worker that takes over goes on with it.
        """
        return self._end_again(status=status, error=error, undo_key="", **values)

    def record_more(self, error: str) -> bool:
        """Write what else is to be said of this server, whose work had ended. Says whether it won."""
        won = self._written(self._ended_here(), error=error)
        self.refresh_from_db(fields=["error"])
        return won

    def keep_out(self, why: str) -> None:
        """Write that this server stays drained, and why, while its deployment goes on under the claim at hand."""
        self.let_in()  # it is said once, by the latest
        if Target.objects.filter(pk=self.pk, deployment__in=self.deployment.held()).write(kept_out=why):
            self.kept_out = why

    def let_in(self) -> None:
        """Write that this server is drained no longer, whichever deployment of its project had drained it."""
        same = Target.objects.filter(server=self.server_id, deployment__project=self.deployment.project_id)
        same.exclude(kept_out="").write(kept_out="")
        self.kept_out = ""

    def _end_again(self, **values: Any) -> bool:
        values["finished_at"] = Now()
        won = self._written(self._ended_here().exclude(status=self.Status.ROLLED_BACK), **values)
        self.refresh_from_db(fields=[*values])
        return won

    def _written(self, rows: TargetQuerySet, **values: Any) -> bool:
        """Write ``values`` if ``rows`` still are this server, and what is kept of it. Says whether it won."""
        return self._kept(lambda: rows.write(**values) == 1, values, values.get("status"))

    def _kept(self, write: Callable[[], bool], names: Collection[str], status: str | None) -> bool:
        """Write what is kept of this server along with a change of ``names``, where that is read from them."""
        if not (_is_left(names, status) or "undone" in self.proof):
            return write()
        with transaction.atomic():
            if self.deployment.helper:
                end_at_a_standstill()
            won = write()
            if won:
                renew_of_targets([self.pk])
        return won

    def _ended_here(self) -> TargetQuerySet:
        """This server, whose work has ended while its deployment goes on under the claim at hand."""
        return Target.objects.filter(pk=self.pk, deployment__in=self.deployment.held(), status__in=self.ENDED)


@cache
def _kept_move(names: tuple[str, ...], moments: tuple[str, ...], is_helping: bool) -> KeptUpdate:
    """The statement of `Target.move` that writes ``names``, and which ``moments`` begin with it.

    The end is written once; of the others, the first time counts.
    """
    deployment = Deployment(pk=Slot("deployment"), claim=Slot("claim"))
    deployment.helper = Slot("helper") if is_helping else ""  # type: ignore[assignment]
    rows = Target.objects.filter(pk=Slot("pk"), deployment__in=deployment.held()).exclude(status__in=Target.ENDED)
    first: dict[str, Any] = {name: Coalesce(name, Now()) for name in moments}
    first |= {name: Now() for name in ("started_at", "finished_at") if name in first}
    values = {name: Slot(name) for name in names} | first | {"revision": models.F("revision") + 1}
    return KeptUpdate(rows, values)
