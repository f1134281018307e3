"""Commands on servers: those that are saved, and each run of one, with its servers and its log."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from deployer.models.deployment import Deployment
from deployer.models.log_line import Line, LineManager
from people.models import User
from people.now import Now
from people.rights import Person, reach
from people.roles import EVERYWHERE, Action, Place
from projects.validators import validate_user_name, validate_variable_name
from servers.fields import EncryptedJSONField
from servers.models import Environment, Server
from servers.sentences import as_stored
from servers.validators import validate_no_nul, validate_one_line

#: Characters of a script, and of the value of a parameter.
LONGEST_SCRIPT, LONGEST_VALUE = 100_000, 10_000


class SavedCommandQuerySet(models.QuerySet["SavedCommand"]):
    """Saved commands."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those with which ``user`` may do this; one for all environments is seen from each of them."""
        reached = reach(user, action)
        if reached.is_everywhere:
            return self
        own = reached.condition("environment")
        if not action.changes and reached.holds_an_environment:
            own |= models.Q(environment="")
        return self.filter(own)


SavedCommandManager = models.Manager.from_queryset(SavedCommandQuerySet)


class SavedCommand(models.Model):
    """A script that is kept to be run on chosen servers, of one environment or (empty) of any.

    Who may run any command there edits it. ``for_operators``: operators may run it, too.
    """

    objects = SavedCommandManager()
    UNRECORDED: ClassVar = frozenset[str]()

    name = models.CharField(_("name"), max_length=100, unique=True, validators=[validate_one_line])
    description = models.TextField(_("description"), blank=True)
    environment = models.CharField(
        _("environment"),
        max_length=20,
        choices=Environment,
        blank=True,
        help_text=_("Where it may be run. Whoever may run any command there edits it. Empty: everywhere."),
    )
    script = models.TextField(
        _("script"),
        validators=[validate_no_nul, MaxLengthValidator(LONGEST_SCRIPT)],
        help_text=_("Run by bash in the home of the login. Parameters come as environment variables: write “$NAME”."),
    )
    run_as = models.CharField(
        _("run as"),
        max_length=32,
        blank=True,
        validators=[validate_user_name],
        help_text=_("The user that the script runs as on the servers, by “sudo -n”. Empty: the login's own user."),
    )
    timeout = models.PositiveIntegerField(
        _("time limit (s)"), default=600, validators=[MinValueValidator(1), MaxValueValidator(86_400)]
    )
    one_by_one = models.BooleanField(
        _("one server after the other"),
        default=False,
        help_text=_("It stops at the first server where it fails. Otherwise all are worked on side by side."),
    )
    not_while_deploying = models.BooleanField(
        _("not while a deployment works there"),
        default=False,
        help_text=_("A server that a deployment works on is skipped. A deployment that begins later is not held up."),
    )
    for_operators = models.BooleanField(
        _("operators may run it"),
        default=False,
        help_text=_("Otherwise only people who may run any command on the chosen servers."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("saved command")
        verbose_name_plural = _("saved commands")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("command", args=[self.pk])

    @property
    def places(self) -> list[Place]:
        """Its environment, or all of them."""
        return [Place(self.environment)]

    @property
    def seen_from(self) -> list[Place]:
        """Its environment, or any."""
        return [Place(name) for name in ([self.environment] if self.environment else Environment.values)]

    @property
    def action(self) -> Action:
        """What somebody needs the right to in all places of a server, to run it there."""
        return Action.RUN if self.for_operators else Action.COMMAND


class CommandParameter(models.Model):
    """A parameter of a saved command: an environment variable of its script, asked for whenever it is run."""

    UNRECORDED: ClassVar = frozenset[str]()

    command = models.ForeignKey(
        SavedCommand, on_delete=models.CASCADE, related_name="parameters", verbose_name=_("saved command")
    )
    name = models.CharField(_("name"), max_length=100, validators=[validate_variable_name])
    label = models.CharField(_("label"), max_length=100, blank=True, validators=[validate_one_line])
    default = models.CharField(
        _("default"), max_length=1000, blank=True, validators=[validate_one_line, validate_no_nul]
    )
    choices = models.TextField(
        _("choices"), blank=True, validators=[validate_no_nul], help_text=_("One a line. Empty: any text.")
    )
    required = models.BooleanField(_("required"), default=False)
    is_secret = models.BooleanField(
        _("secret"), default=False, help_text=_("Masked in the log; the record shows a fingerprint.")
    )
    position = models.PositiveIntegerField(_("position"), default=0)

    class Meta:
        ordering: ClassVar = ["position", "id"]
        verbose_name = _("parameter")
        verbose_name_plural = _("parameters")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["command", "name"],
                name="parameter_once_in_a_command",
                violation_error_message=_("The command has this parameter already."),
            ),
        ]

    def __str__(self) -> str:
        return self.label or self.name

    @property
    def places(self) -> list[Place]:
        """Those of its command."""
        return self.command.places

    @property
    def choice_list(self) -> list[str]:
        """The choices, each once."""
        return [*dict.fromkeys(line.strip() for line in self.choices.splitlines() if line.strip())]

    def clean(self) -> None:
        """A default must be one of the choices, and no secret has either: both are shown."""
        if self.is_secret and (self.default or self.choices):
            raise ValidationError({"is_secret": _("A secret has neither a default nor choices: both are shown.")})
        if self.default and self.choice_list and self.default not in self.choice_list:
            raise ValidationError({"default": _("The default is none of the choices.")})


class CommandRunQuerySet(models.QuerySet["CommandRun"]):
    """Runs of commands by whether they have ended."""

    def update(self, **values: Any) -> int:
        """Also raises the revision, so that pages see the change."""
        if not values.keys() <= CommandRun.UNSEEN:
            values["revision"] = models.F("revision") + 1
        return super().update(**values)

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those with which ``user`` may do this in all environments of their servers.

        What a command prints may be anything on a machine: to see it takes an operator.
        """
        reached = reach(user, Action.RUN if action is Action.SEE else action)
        if reached.is_everywhere:
            return self
        own = reached.environments(Environment.values)
        if not own:
            return self.none()
        others = [name for name in [CommandRun.ANYWHERE, *Environment.values] if name not in own]
        found = self
        for name in others:
            found = found.exclude(environments__contains=f",{name},")
        return found

    def active(self) -> Self:
        """Those that have not ended."""
        return self.filter(finished_at=None)

    def running(self) -> Self:
        """Those that a worker has taken and not ended."""
        return self.active().exclude(status=CommandRun.Status.PENDING)

    def pending(self) -> Self:
        """Those that no worker has taken yet."""
        return self.active().filter(status=CommandRun.Status.PENDING)


CommandRunManager = models.Manager.from_queryset(CommandRunQuerySet)


class CommandRun(models.Model):
    """One run of a command on chosen servers: ``pending → running → success``, or failed, cancelled, interrupted.

    All of it is frozen when it is asked for: ``script`` is the exact text, ``values`` what its parameters were given
    (encrypted; ``secret_names`` are those that are masked). ``environments`` are those of its servers, as
    ``,production,staging,``. ``claim``, ``heartbeat_at``, ``tries`` and ``revision`` are as those of a deployment; so
    is ``interrupted``, which comes while another worker follows what a lost one had begun.
    """

    UNSEEN: ClassVar = frozenset({"claim", "heartbeat_at", "tries"})
    MOST_TRIES: ClassVar = Deployment.MOST_TRIES
    #: Among ``environments``: a server that is in no group.
    ANYWHERE = "*"

    class Status(models.TextChoices):
        PENDING = "pending", _("Pending")
        RUNNING = "running", _("Running")
        SUCCESS = "success", _("Success")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        INTERRUPTED = "interrupted", _("Interrupted")

    objects = CommandRunManager()

    command = models.ForeignKey(
        SavedCommand,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="runs",
        verbose_name=_("saved command"),
    )
    name = models.CharField(_("name"), max_length=100)
    script = models.TextField(_("script"))
    values = EncryptedJSONField(null=True, editable=False)
    secret_names = models.JSONField(default=list, blank=True, editable=False)
    run_as = models.CharField(_("run as"), max_length=32, blank=True)
    timeout = models.PositiveIntegerField(_("time limit (s)"), default=600)
    one_by_one = models.BooleanField(_("one server after the other"), default=False)
    not_while_deploying = models.BooleanField(_("not while a deployment works there"), default=False)
    environments = models.CharField(_("environments"), max_length=200)
    status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.PENDING)
    error_message = models.TextField(_("error"), blank=True)
    created_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("created by")
    )
    launched_for = models.CharField(_("launched for"), max_length=200, blank=True)
    trigger = models.CharField(_("trigger"), max_length=10, choices=Deployment.Trigger, default=Deployment.Trigger.WEB)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    cancel_requested_at = models.DateTimeField(_("cancel requested"), null=True, blank=True)
    progress = models.CharField(max_length=100, default="", blank=True, editable=False)
    heartbeat_at = models.DateTimeField(_("last sign of life"), null=True, blank=True)
    claim = models.CharField(max_length=32, blank=True, editable=False)
    tries = models.PositiveSmallIntegerField(default=0, editable=False)
    revision = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("run of a command")
        verbose_name_plural = _("runs of commands")
        indexes: ClassVar = [
            models.Index(fields=["finished_at"], name="open_runs", condition=models.Q(finished_at=None)),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("command_run", args=[self.pk])

    @property
    def places(self) -> list[Place]:
        """The environments of its servers."""
        return [EVERYWHERE if name == self.ANYWHERE else Place(name) for name in self.environment_list]

    @property
    def seen_from(self) -> list[Place]:
        """The same; who may see it is for `CommandRunQuerySet.reached_by` to say."""
        return self.places

    @property
    def environment_list(self) -> list[str]:
        """The environments, one by one."""
        return [name for name in self.environments.split(",") if name]

    @property
    def launched_by(self) -> str:
        """Who asked for it: the user, else the login on the machine."""
        return self.created_by.get_username() if self.created_by else self.launched_for

    @property
    def is_active(self) -> bool:
        """Whether it has not ended yet."""
        return self.finished_at is None

    @property
    def given(self) -> Mapping[str, str]:
        """What its parameters were given; nothing where that cannot be read."""
        values = self.values
        return values if isinstance(values, dict) else {}

    def secret_values(self) -> list[str]:
        """What no log may show."""
        return [value for name, value in self.given.items() if name in self.secret_names]

    def shown_values(self) -> dict[str, str]:
        """What its parameters were given, as people see it."""
        return {name: "••••••" if name in self.secret_names else value for name, value in self.given.items()}

    # --- moves ---------------------------------------------------------------------------------------

    def claim_for_worker(self, claim: str = "") -> bool:
        """Take it from ``pending`` for the calling worker. Says whether it won: it runs once."""
        taken = {"status": self.Status.RUNNING, "heartbeat_at": Now(), "started_at": Now(), "tries": 0}
        return self._take(self._rows().pending(), claim, self.Status.RUNNING, taken)

    def claim_to_settle(self, claim: str = "") -> bool:
        """Take an interrupted one that is nobody's for the calling worker. Says whether it won."""
        rows = self._rows().running().filter(status=self.Status.INTERRUPTED, claim="")
        return self._take(rows, claim, self.Status.INTERRUPTED, {"heartbeat_at": Now()})

    def _take(self, rows: CommandRunQuerySet, claim: str, status: "CommandRun.Status", values: dict[str, Any]) -> bool:
        token = claim or secrets.token_hex(16)
        won = rows.update(claim=token, **values) == 1
        if won:
            self.claim, self.status = token, status
        return won

    def declare_lost(self, why: str, last_sign: datetime | None = None) -> bool:
        """Take it from its worker, as `Deployment.declare_lost` does."""
        rows = self.held() if last_sign is None else self.held().filter(heartbeat_at__lte=last_sign)
        won = rows.update(status=self.Status.INTERRUPTED, claim="", heartbeat_at=Now(), error_message=why) == 1
        if won:
            self.claim, self.status, self.error_message = "", self.Status.INTERRUPTED, why
        return won

    @classmethod
    def count_try(cls, pk: int) -> None:
        """Write that a worker sets about it, if it is nobody's."""
        cls.objects.active().filter(pk=pk, claim="", tries__lt=cls.MOST_TRIES).update(tries=models.F("tries") + 1)

    def give_up(self, why: str) -> bool:
        """End it without another try, if it is nobody's. Says whether it won."""
        begun = self.status != self.Status.PENDING
        rows = self._rows().active().filter(claim="", status=self.status)
        status = self.Status.INTERRUPTED if begun else self.Status.FAILED
        won = rows.update(status=status, error_message=why, finished_at=Now()) == 1
        if won:
            left = self.targets.exclude(status__in=CommandTarget.ENDED)
            was_running = left.filter(status=CommandTarget.Status.RUNNING)
            was_running.update(status=CommandTarget.Status.UNKNOWN, error=why, finished_at=Now())
            skipped = gettext("Not started: %s") % why
            left.update(status=CommandTarget.Status.SKIPPED, error=skipped, finished_at=Now())
        self.refresh_from_db(fields=["status", "error_message", "finished_at"])
        return won

    def beat(self) -> bool:
        """Record a sign of life. False: it has ended or was taken away, and nothing more may be done."""
        return self.held().update(heartbeat_at=Now()) == 1

    def end(self, status: "CommandRun.Status", error: str = "") -> bool:
        """Write the one final status, and why, under this worker's claim. A second call changes nothing."""
        won = self.held().update(status=status, error_message=error, finished_at=Now()) == 1
        self.refresh_from_db(fields=["status", "error_message", "finished_at"])
        return won

    def request_cancel(self) -> bool:
        """Ask it to stop, and to end what runs. Says whether it was active. One that nobody has taken ends at once."""
        values: dict[str, Any] = {"cancel_requested_at": Coalesce("cancel_requested_at", Now())}
        ended = self._rows().pending().update(status=self.Status.CANCELLED, finished_at=Now(), **values)
        if ended:
            with as_stored():
                why = gettext("Cancelled before it started.")
            left = self.targets.exclude(status__in=CommandTarget.ENDED)
            left.update(status=CommandTarget.Status.CANCELLED, error=why, finished_at=Now())
        won = bool(ended) or self._rows().running().update(**values) == 1
        self.refresh_from_db(fields=["status", "cancel_requested_at", "finished_at"])
        return won

    def _rows(self) -> CommandRunQuerySet:
        return CommandRun.objects.filter(pk=self.pk)

    def held(self) -> CommandRunQuerySet:
        """This run, while it goes on under the claim of this object."""
        return self._rows().running().filter(claim=self.claim)


class CommandTargetQuerySet(models.QuerySet["CommandTarget"]):
    """Servers of runs."""

    def update(self, **values: Any) -> int:
        """Also raises the revision, so that pages see the change."""
        return super().update(**values, revision=models.F("revision") + 1)


CommandTargetManager = models.Manager.from_queryset(CommandTargetQuerySet)


class CommandTarget(models.Model):
    """One server of a run of a command: how it ended there. An end stays.

    ``run_key`` names the private folder of the run on the server; it is written before anything begins, so that the run
    is found again and never started twice. ``stdout_logged`` and ``stderr_logged`` are how many bytes of its output are
    in the log, ``progress`` the line that it has not ended yet.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        UNKNOWN = "unknown", _("Unknown")
        SKIPPED = "skipped", _("Skipped")

    ENDED: ClassVar = frozenset({Status.DONE, Status.FAILED, Status.CANCELLED, Status.UNKNOWN, Status.SKIPPED})

    objects = CommandTargetManager()

    run = models.ForeignKey(CommandRun, on_delete=models.CASCADE, related_name="targets", verbose_name=_("run"))
    server = models.ForeignKey(
        Server, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("server")
    )
    server_name = models.CharField(_("server"), max_length=100)
    host = models.CharField(_("host"), max_length=300)
    status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.PENDING)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    exit_code = models.IntegerField(_("exit status"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    progress = models.CharField(_("progress"), max_length=100, blank=True)
    run_key = models.CharField(max_length=32, default="", editable=False)
    stdout_logged = models.PositiveBigIntegerField(default=0, editable=False)
    stderr_logged = models.PositiveBigIntegerField(default=0, editable=False)
    revision = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering: ClassVar = ["id"]
        verbose_name = _("server of a run")
        verbose_name_plural = _("servers of a run")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "server"], name="server_once_in_a_run"),
        ]

    def __str__(self) -> str:
        return self.server_name

    @property
    def has_ended(self) -> bool:
        """Whether its end is known."""
        return self.status in self.ENDED

    def move(self, status: "CommandTarget.Status", **values: Any) -> bool:
        """Go on to ``status`` unless it has ended. Says whether it won: the run must be held by this worker."""
        rows = CommandTarget.objects.filter(pk=self.pk, run__in=self.run.held()).exclude(status__in=self.ENDED)
        moment = {"finished_at": Now()} if status in self.ENDED else {"started_at": Now()}
        won = rows.update(status=status, **values, **moment) == 1
        if won:
            self.__dict__ |= {"status": status, **values}
        return won


class CommandLine(Line):
    """One line of the log of a run; ``target`` is null for what the platform itself says."""

    objects = LineManager("run")

    run = models.ForeignKey(
        CommandRun, on_delete=models.CASCADE, related_name="log_lines", db_index=False, verbose_name=_("run")
    )
    target = models.ForeignKey(
        CommandTarget,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="log_lines",
        verbose_name=_("server of a run"),
    )

    class Meta:
        ordering: ClassVar = ["id"]
        verbose_name = _("line of a run")
        verbose_name_plural = _("lines of runs")
        indexes: ClassVar = [models.Index(fields=["run", "id"], name="log_of_run")]
