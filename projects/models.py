"""Projects, their health checks and their variables; their steps are in `projects.steps`."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Self

from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from people.models import User
from people.record import Act, Event, actor, changes, record_all, snapshot
from people.refusals import RefusedError
from people.rights import Person, reach
from people.roles import EVERYWHERE, Action, Place
from projects.commands.expectation import placeholder_problem
from projects.commands.following import FOLLOWED
from projects.commands.health import check_target
from projects.commands.services.kind import Does
from projects.commands.services.kinds import check_name, own_command
from projects.commands.services.pidfile import is_pid_file
from projects.config_files import FACTS_OF_DEPLOYMENT, FACTS_OF_SERVER
from projects.config_files import ConfigFile as ConfigFile
from projects.config_files import ConfigVersion as ConfigVersion
from projects.dotenv import looks_secret
from projects.outside import problem_of
from projects.steps import FromTemplate, GivenStep
from projects.steps import Step as Step
from projects.validators import (
    LONGEST_KEPT,
    LONGEST_PAUSE,
    LONGEST_QUESTION,
    choice_list,
    git_endpoint,
    log_path_list,
    validate_batches,
    validate_check_of_file,
    validate_choices,
    validate_config_path,
    validate_content,
    validate_git_url,
    validate_header,
    validate_log_paths,
    validate_mode,
    validate_owner,
    validate_pauses,
    validate_ref,
    validate_relative_folder,
    validate_shared_paths,
    validate_user_name,
    validate_variable_name,
)
from servers.fields import EncryptedTextField, is_unreadable
from servers.hosts import Endpoint
from servers.models import Credential, Environment, Server, ServerGroup
from servers.validators import PathValidator, validate_host, validate_no_nul, validate_one_line

#: The settings that a project may have from its template: all but what makes it this project, and where it is.
TEMPLATED: tuple[str, ...] = (
    *("project_type", "default_branch", "submodules", "lfs"),
    *("auto_install", "install_script", "build_script", "output_dir", "keeps_database_files"),
    *("deploy_path", "deploy_script_path", "restart_only_script_path", "restart_script", "stop_script", "start_script"),
    *("run_as", "shared_paths", "service_kind", "service_name", "process_name", "script_reloads", "watch_for"),
    *("log_path", "more_logs", "script_timeout"),
    *("batches", "max_failures", "pause_after_first", "pause_after", "pause_for", "may_stop_last_healthy"),
    *("auto_rollback", "guided_failure", "guided_for", "keep_releases"),
    *("keep_logs_for", "keep_evidence_for", "keep_deployments_for", "keep_deployments"),
)


class ArchivedError(RefusedError, PermissionDenied):
    """A project is archived: it is neither changed nor launched, whoever asks."""

    def __init__(self, project: "Project") -> None:
        super().__init__(project.archived_sentence)
        self.address = reverse("project", args=[project.pk])


class ProjectQuerySet(models.QuerySet["Project"]):
    """Projects, also those that are archived: lists, choices and names take the `current` ones."""

    def current(self) -> Self:
        """Those that are not archived."""
        return self.filter(archived_at=None)

    def archived(self) -> Self:
        """Those that are."""
        return self.exclude(archived_at=None)

    def with_archived_last(self) -> Self:
        """By name, the current ones first."""
        return self.order_by(models.F("archived_at").asc(nulls_first=True), "name")

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those with which ``user`` may do this."""
        return self.filter(reach(user, action).condition("environment", "pk"))


ProjectManager = models.Manager.from_queryset(ProjectQuerySet)


class Project(models.Model):
    """One application in one environment: where its code is, how it is built, how it is restarted.

    ``deploy_script_path`` is run by both types of deployment; ``restart_only_script_path``, where set,
    replaces it for restart-only. An absolute path is taken as it is, a relative one lies under
    ``{deploy_path}/current``. Times are in seconds. Since ``archived_at`` it is hidden, nothing of it is launched or
    changed, and its name is free: rights, gates and tokens keep its number.
    """

    objects = ProjectManager()
    UNRECORDED: ClassVar = frozenset[str]()

    class ProjectType(models.TextChoices):
        FRONTEND = "frontend", _("Frontend")
        BACKEND = "backend", _("Backend")
        JAVA = "java", _("Java")
        OTHER = "other", _("Other")

    #: Set by what brings the settings of its template to it.
    is_following = False
    #: Set while it is declared together with its variables and groups: what depends on those is checked afterwards.
    is_being_declared = False

    class ServiceKind(models.TextChoices):
        PROCESS = "process", _("Process")
        PORT = "port", _("Port")
        SYSTEMD = "systemd", _("systemd unit")
        SUPERVISOR = "supervisor", _("supervisor program")
        PM2 = "pm2", _("pm2 app")
        DOCKER = "docker", _("Container")

    class NameTyped(models.TextChoices):
        """Where its name is typed on the launch page before it is launched there."""

        IN_PRODUCTION = "production", _("in production")
        ALWAYS = "always", _("always")
        NEVER = "never", _("never")

    #: What a copy does not share with its original.
    _ITS_OWN: ClassVar = frozenset(
        {"id", "name", "environment", "created_at", "updated_at"}
        | {"archived_at", "archived_by", "archived_for", "archive_reason"}
    )

    name = models.CharField(_("name"), max_length=100, validators=[validate_one_line])
    description = models.TextField(_("description"), blank=True)
    environment = models.CharField(
        _("environment"), max_length=20, choices=Environment, default=Environment.DEVELOPMENT
    )
    project_type = models.CharField(_("type"), max_length=10, choices=ProjectType, default=ProjectType.OTHER)
    template = models.ForeignKey(
        "Template",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="projects",
        verbose_name=_("template"),
        help_text=_("What it has as the template has it changes with the template. What differs now stays its own."),
    )
    own_fields = models.JSONField(_("settings of its own"), default=list, blank=True, editable=False)
    server_groups = models.ManyToManyField(
        ServerGroup,
        blank=True,
        related_name="projects",
        verbose_name=_("server groups"),
        help_text=_("Where it belongs. Without any, it can be launched to every group of its environment."),
    )
    may_launch_elsewhere = models.BooleanField(
        _("may be launched elsewhere"),
        default=False,
        help_text=_("Also to other groups of its environment; each launch for the first time there must be confirmed."),
    )

    name_typed = models.CharField(
        _("name is typed"),
        max_length=10,
        choices=NameTyped,
        default=NameTyped.IN_PRODUCTION,
        help_text=_("Whether its name has to be typed on the page before it is launched there."),
    )

    git_url = models.CharField(
        _("git address"),
        max_length=500,
        blank=True,
        validators=[validate_git_url],
        help_text=_("https://…, ssh://… or git@host:path. Not needed by a project that is only restarted."),
    )
    git_credential = models.ForeignKey(
        Credential,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="projects",
        verbose_name=_("git credential"),
        help_text=_("For a private repository: an SSH key, or a user name and a token as the password."),
    )
    default_branch = models.CharField(_("default branch"), max_length=100, default="main", validators=[validate_ref])
    submodules = models.BooleanField(
        _("submodules"),
        default=False,
        help_text=_("Fetch the submodules of the repository too. The git credential is sent to its own hosts alone."),
    )
    lfs = models.BooleanField(
        _("LFS files"),
        default=False,
        help_text=_("Fetch the large files that the repository keeps in git LFS; git-lfs must be installed."),
    )

    auto_install = models.BooleanField(
        _("install dependencies"),
        default=False,
        help_text=_("Before the build, install what the lock file in the repository asks for."),
    )
    install_script = models.TextField(
        _("install script"), blank=True, validators=[validate_no_nul], help_text=_("Replaces the automatic install.")
    )
    build_script = models.TextField(
        _("build script"), blank=True, validators=[validate_no_nul], help_text=_("Run by bash in the work folder.")
    )
    output_dir = models.CharField(
        _("output folder"),
        max_length=300,
        blank=True,
        validators=[validate_relative_folder],
        help_text=_("The folder that is released, like “dist”. Empty: the whole work folder."),
    )
    keeps_database_files = models.BooleanField(
        _("database files are meant"),
        default=False,
        help_text=_(
            "The SQLite files in releases are only read. Without this, a build that has some outside of the shared "
            "paths fails: each release would begin with another database."
        ),
    )

    deploy_path = models.CharField(
        _("deploy path"),
        max_length=300,
        blank=True,
        validators=[PathValidator()],
        help_text=_("Holds releases/, shared/ and current on the servers."),
    )
    shared_paths = models.TextField(
        _("shared paths"),
        blank=True,
        validators=[validate_shared_paths],
        help_text=_(
            "Files and folders that are kept between releases, like “uploads, log/, .env”, separated by commas or "
            "lines: each release gets a link into shared/. A path that ends in / is created if it does not exist."
        ),
    )
    deploy_script_path = models.CharField(
        _("deploy script"),
        max_length=300,
        blank=True,
        validators=[PathValidator(relative_allowed=True)],
        help_text=_("Restarts the application. A relative path starts at {deploy path}/current."),
    )
    restart_only_script_path = models.CharField(
        _("restart-only script"),
        max_length=300,
        blank=True,
        validators=[PathValidator(relative_allowed=True)],
        help_text=_("Replaces the deploy script in restart-only deployments."),
    )
    restart_script = models.TextField(
        _("restart script"),
        blank=True,
        validators=[validate_no_nul, MaxLengthValidator(100_000)],
        help_text=_(
            "A script that is kept here instead of on the servers: bash runs it in {deploy path}/current, or in the "
            "login's home. It counts where the project names no deploy script."
        ),
    )
    stop_script = models.TextField(
        _("stop script"),
        blank=True,
        validators=[validate_no_nul, MaxLengthValidator(100_000)],
        help_text=_(
            "Stops the application, in a deployment that is only to stop it: kept and run as the restart script is. "
            "Without one, the kind of service stops it (systemd, supervisor, pm2, docker)."
        ),
    )
    start_script = models.TextField(
        _("start script"),
        blank=True,
        validators=[validate_no_nul, MaxLengthValidator(100_000)],
        help_text=_(
            "Starts it again. Without one, the kind of service starts it; where that cannot, what restarts it does."
        ),
    )
    run_as = models.CharField(
        _("run as"),
        max_length=32,
        blank=True,
        validators=[validate_user_name],
        help_text=_("The user that the scripts run as on the servers, by “sudo -n”. Empty: the login's own user."),
    )
    service_kind = models.CharField(
        _("kind of service"),
        max_length=10,
        choices=ServiceKind,
        default=ServiceKind.PROCESS,
        help_text=_(
            "How the application is kept running: by that it is found, proved, and restarted where the project has no "
            "script."
        ),
    )
    service_name = models.CharField(
        _("service name"),
        max_length=200,
        blank=True,
        validators=[validate_one_line],
        help_text=_(
            "The unit, the program, the app, the container (or project/service of a compose file), the port; of a "
            "process the words of its command line, or the path of its pid file."
        ),
    )
    process_name = models.CharField(
        _("process name"),
        max_length=200,
        blank=True,
        validators=[validate_one_line],
        help_text=_(
            "Words of the running application's command line or title, like “node server.js”. If it is set, a restart "
            "that does not replace the process counts as failed."
        ),
    )
    script_reloads = models.BooleanField(
        _("script only reloads"),
        default=False,
        help_text=_(
            "The script makes the running process read its configuration again: its workers must be new, the process "
            "need not be."
        ),
    )
    watch_for = models.PositiveIntegerField(
        _("watch for (s)"),
        default=1,
        validators=[MaxValueValidator(3600)],
        help_text=_(
            "How long the service is watched after its restart, its start or its stop, in seconds: after so many it "
            "must still be the same one, or still be stopped. A crash loop is seen if its lives are shorter. The "
            "health checks come after that, each with a time of its own for which it must stay healthy."
        ),
    )
    log_path = models.CharField(
        _("application log"),
        max_length=300,
        blank=True,
        validators=[PathValidator()],
        help_text=_("A file on the servers; its last lines are kept as evidence when a restart fails."),
    )
    more_logs = models.TextField(
        _("more logs"),
        blank=True,
        validators=[validate_log_paths],
        help_text=_(
            "Files that can be followed live besides the application log, one a line, at most five: absolute paths, or "
            "relative to the deploy path, like “shared/log/worker.log”. Logs of units, programs, apps and containers "
            "are found by their service."
        ),
    )
    script_timeout = models.PositiveIntegerField(
        _("script timeout"),
        default=600,
        validators=[MinValueValidator(1), MaxValueValidator(86_400)],
        help_text=_("Time limit in seconds for each script: install, build, and restart on each server."),
    )

    batches = models.CharField(
        _("batches"),
        max_length=200,
        default="100%",
        validators=[validate_batches],
        help_text=_("How many servers at a time, like “1, 25%, 100%”."),
    )
    max_failures = models.PositiveIntegerField(
        _("failure budget"),
        default=0,
        help_text=_("Number of servers that are allowed to fail. Above it, batches that have not begun are skipped."),
    )
    pause_after_first = models.BooleanField(
        _("pause after the first batch"),
        default=False,
        help_text=_("Wait there until somebody presses “continue”."),
    )
    pause_after = models.CharField(
        _("pause after batches"),
        max_length=200,
        blank=True,
        validators=[validate_pauses],
        help_text=_("Their numbers, like “1, 3”, or “every”, or “none”; empty: only where the first batch is ticked."),
    )
    pause_for = models.PositiveIntegerField(
        _("length of a pause"),
        default=0,
        validators=[MaxValueValidator(LONGEST_PAUSE)],
        help_text=_("Seconds after which it goes on; 0: not before somebody presses “continue”."),
    )
    guided_failure = models.BooleanField(
        _("ask after failures"),
        default=False,
        help_text=_(
            "Where more servers fail than allowed, or a step fails, the deployment waits for somebody to choose: try "
            "again, go on, roll back, stop."
        ),
    )
    guided_for = models.PositiveIntegerField(
        _("time to answer"),
        default=60,
        validators=[MinValueValidator(1), MaxValueValidator(LONGEST_QUESTION)],
        help_text=_("Minutes; without an answer it stops then."),
    )
    may_stop_last_healthy = models.BooleanField(
        _("allow work on the last healthy server"),
        default=False,
        help_text=_("Otherwise a batch is skipped when every other server of its group has failed."),
    )
    auto_rollback = models.BooleanField(
        _("roll back automatically"),
        default=False,
        help_text=_(
            "When more servers fail than allowed, a full deployment puts the servers it has changed back on their "
            "previous release, and a restart-only one puts back the config files that it has replaced."
        ),
    )
    keep_releases = models.PositiveIntegerField(
        _("releases to keep"), default=5, validators=[MinValueValidator(1), MaxValueValidator(1000)]
    )
    keep_logs_for = models.PositiveIntegerField(
        _("keep logs for"),
        default=0,
        validators=[MaxValueValidator(LONGEST_KEPT)],
        help_text=_("Days; 0: as long as the installation keeps them (DEPLOYER_LOG_DAYS)."),
    )
    keep_evidence_for = models.PositiveIntegerField(
        _("keep evidence for"),
        default=0,
        validators=[MaxValueValidator(LONGEST_KEPT)],
        help_text=_("Days; 0: as long as the installation keeps it (DEPLOYER_EVIDENCE_DAYS)."),
    )
    keep_deployments_for = models.PositiveIntegerField(
        _("keep deployments for"),
        default=0,
        validators=[MaxValueValidator(LONGEST_KEPT)],
        help_text=_(
            "Days; 0: as long as the installation keeps them (DEPLOYER_DEPLOYMENT_DAYS). What made the live or the "
            "previous release of a server stays, and so does the last one that went well."
        ),
    )
    keep_deployments = models.PositiveIntegerField(
        _("deployments to keep"),
        default=0,
        validators=[MaxValueValidator(1_000_000)],
        help_text=_("The newest ones; 0: as many as the installation keeps (DEPLOYER_DEPLOYMENTS)."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)
    archived_at = models.DateTimeField(_("archived"), null=True, blank=True, editable=False)
    archived_by = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        verbose_name=_("archived by"),
    )
    archived_for = models.CharField(max_length=200, blank=True, editable=False)
    archive_reason = models.CharField(
        _("why it is archived"), max_length=500, blank=True, editable=False, validators=[validate_one_line]
    )

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("project")
        verbose_name_plural = _("projects")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["name"],
                condition=models.Q(archived_at=None),
                name="project_name_once",
                violation_error_code="unique",
                violation_error_message=_("A project with this name already exists."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def differs(self, name: str) -> bool:
        """Whether its setting is another one than that of its template."""
        return self.template is not None and bool(getattr(self, name) != getattr(self.template, name))

    @property
    def is_archived(self) -> bool:
        """Whether it is hidden, and neither changed nor launched."""
        return self.archived_at is not None

    @property
    def archiver(self) -> str:
        """Who archived it: a user, else the login on the machine."""
        return self.archived_by.get_username() if self.archived_by else self.archived_for

    @property
    def label(self) -> str:
        """Its name, and that it is archived, where others of the same name may stand beside it."""
        return gettext("%s (archived)") % self.name if self.is_archived else self.name

    @property
    def archived_sentence(self) -> str:
        """Why nothing is launched or changed; empty where it is not archived."""
        return gettext("Project “%s” is archived: restore it first.") % self.name if self.is_archived else ""

    def insist_on_current(self) -> None:
        """Raises `ArchivedError`."""
        if self.is_archived:
            raise ArchivedError(self)

    def names_for_files(self) -> set[str]:
        """The names that a template of its config files may use on one of its servers, if not on all of them."""
        names = {*FACTS_OF_SERVER, *FACTS_OF_DEPLOYMENT}
        if self.pk is None:
            return names
        scopes = [GivenVariable.Scope.DEPLOY, GivenVariable.Scope.BOTH]
        of_sets = SetVariable.objects.filter(variable_set__attached__project=self, scope__in=scopes)
        for rows in (self.variables.filter(scope__in=scopes), of_sets):
            names.update(rows.values_list("name", flat=True))
        return names

    @property
    def has_history(self) -> bool:
        """Whether it was ever deployed, or something was stored to be."""
        theirs: Any = self  # rows of the floor above lead here
        return bool(theirs.deployments.exists() or theirs.releases.exists())

    @property
    def places(self) -> list[Place]:
        """Itself, in its environment."""
        return [Place(self.environment, self.pk)]

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    def groups_to_launch(self) -> list[ServerGroup]:
        """The groups of a launch that names none: its own with an active server, or all where none has one."""
        own = list(self.server_groups.all())
        active = ServerGroup.servers.through.objects.filter(servergroup__in=own, server__is_active=True)
        worked_on = {*active.values_list("servergroup", flat=True)}
        return [group for group in own if group.pk in worked_on] or own

    def reached_by_launch(self, groups: Iterable[ServerGroup]) -> Iterator[ServerGroup | Place]:
        """Besides itself, all that somebody who launches it to ``groups`` needs the right to operate.

        That is each group; for one that is none of its own it is the group's whole environment.
        """
        own = {*self.server_groups.values_list("pk", flat=True)}
        for group in groups:
            yield group if group.pk in own else Place(group.environment)

    @property
    def git_endpoint(self) -> Endpoint | None:
        """Where its git credential is sent to; nothing where the repository is on this machine, or there is none."""
        return git_endpoint(self.git_url)

    def bind_git_credential(self) -> None:
        """Let its git credential be sent to the host of its git address."""
        if self.git_credential is not None and self.git_endpoint is not None:
            self.git_credential.bind(self.git_endpoint)

    def save(self, *args: Any, binds: bool = True, **kwargs: Any) -> None:
        """A new project ``binds`` its git credential to its host. Who may make one is for the forms to say, before.

        A setting that is another one than the template's is the project's own from then on.
        """
        is_new = self._state.adding
        if self.template is not None and not self.is_following:
            written = kwargs.get("update_fields")
            names = TEMPLATED if written is None else [name for name in TEMPLATED if name in written]
            own = {*self.own_fields, *(name for name in names if self.differs(name))}
            if own != {*self.own_fields}:
                self.own_fields = sorted(own)
                kwargs |= {} if written is None else {"update_fields": [*written, "own_fields"]}
        super().save(*args, **kwargs)
        if is_new and binds:
            self.bind_git_credential()

    def validate_constraints(self, exclude: Any = None) -> None:
        """A form that does not have the date of archiving still has to keep names apart."""
        super().validate_constraints(exclude=None if exclude is None else {*exclude} - {"archived_at"})

    def clean(self) -> None:
        """A relative script needs the folder it is relative to."""
        if not self.deploy_path:
            for field in ("deploy_script_path", "restart_only_script_path"):
                value = getattr(self, field)
                if value and not value.startswith(("/", "~/")):
                    raise ValidationError(
                        {field: _("A relative script path starts at {deploy path}/current: set the deploy path too.")}
                    )
            if any(not path.startswith(("/", "~/")) for path in log_path_list(self.more_logs)):
                raise ValidationError({"more_logs": _("A relative path starts at the deploy path: set that too.")})
        check_service(self.service_kind, self.service_name, self.deploy_path, "service_name")

    def can_restart(self, *, restart_only: bool) -> bool:
        """Whether something restarts it: a script on its servers or here, or the kinds of all of its services."""
        if self.deploy_script_path or self.restart_script or (restart_only and self.restart_only_script_path):
            return True
        return bool(self.own_restart)

    @property
    def asks_for_name(self) -> bool:
        """Whether its name has to be typed before it is launched by hand on its page."""
        if self.name_typed == self.NameTyped.IN_PRODUCTION:
            return self.environment == Environment.PRODUCTION
        return self.name_typed == self.NameTyped.ALWAYS

    @property
    def can_stop(self) -> bool:
        """Whether something stops it, and it is known by what that is proved."""
        return bool(self.stop_script or self.own_command(Does.STOP)) and self.is_named

    @property
    def can_start(self) -> bool:
        """The same of its start; what restarts it starts it too."""
        starts = self.start_script or self.own_command(Does.START) or self.can_restart(restart_only=True)
        return bool(starts) and self.is_named

    @property
    def is_named(self) -> bool:
        """Whether somebody has said what its main service is: what is only named after the project proves nothing."""
        if self.service_kind != self.ServiceKind.PROCESS or self.service_name or self.process_name:
            return True
        return self.health_checks.filter(kind__in=[HealthCheck.Kind.PROCESS, HealthCheck.Kind.SYSTEMD]).exists()

    def own_command(self, does: Does) -> str:
        """The command by which the kinds of its services do it; empty where one of them has none."""
        return own_command(self.all_services(), does)

    @property
    def own_restart(self) -> str:
        """That of its restart."""
        return self.own_command(Does.RELOAD if self.script_reloads else Does.RESTART)

    @property
    def restart_text(self) -> str:
        """What restarts it in a full deployment, in short: a path, the name of a field, or a command; else nothing."""
        return self.deploy_script_path or ("restart_script" if self.restart_script else self.own_restart)

    @property
    def logs(self) -> list[tuple[str, str]]:
        """Kind and name of each log that can be followed: its files, and those of the keepers of its services."""
        files = dict.fromkeys([*([self.log_path] if self.log_path else []), *log_path_list(self.more_logs)])
        kept = [(kind, name) for kind, name in self.all_services() if kind in FOLLOWED and name]
        return [*(("file", path) for path in files), *kept]

    def all_services(self) -> list[tuple[str, str]]:
        """Kind and name of its main service and of the others, in their order."""
        return [(self.service_kind, self.service_name), *self.services.values_list("kind", "name")]

    def copy(self, name: str, environment: str, sets: "Iterable[AttachedSet]" = ()) -> "Project":
        """A new project with all the settings and parts of this one, secret values too.

        ``sets`` are those of its attached sets that the copy has, too. In another environment the values and the
        files of groups and servers have no place, and stay behind.
        """
        columns = [field.attname for field in self._meta.concrete_fields if field.name not in self._ITS_OWN]
        with transaction.atomic():
            copy = Project(name=name, environment=environment, **{column: getattr(self, column) for column in columns})
            copy.save(binds=False)
            made: list[models.Model] = [copy]
            stays = environment != self.environment
            variables = [row for row in self.variables.all() if not (stays and (row.server_group_id or row.server_id))]
            parts: list[Iterable[Any]] = [self.health_checks.all(), self.services.all(), self.steps.all()]
            files = [row for row in self.config_files.all() if not (stays and not row.is_for_all)]
            parts += [variables, sets, files]
            for rows in parts:
                for part in rows:
                    part.pk, part.project, part._state.adding, part.is_following = None, copy, True, True
                    part.save()
                    made.append(part)
            note = f"a copy of project {self} (#{self.pk})"
            record_all(actor(), [Event(Act.CREATED, it, {}, changes({}, snapshot(it))[1], note) for it in made])
        return copy


def check_service(kind: str, name: str, deploy_path: str, field: str) -> None:
    """Refuse, under ``field``, a ``name`` that no service of this ``kind`` has. Raises `ValidationError`."""
    if kind not in Project.ServiceKind.values:
        return  # that is said of the field itself
    try:
        check_name(kind, name)
    except ValueError as error:
        raise ValidationError({field: str(error)}) from error
    is_relative = kind == Project.ServiceKind.PROCESS and is_pid_file(name) and not name.startswith(("/", "~/"))
    if is_relative and not deploy_path:
        raise ValidationError(
            {field: _("A relative path of a pid file starts at {deploy path}/current: set the deploy path too.")}
        )


class Service(models.Model):
    """A service of a project besides its main one, like a worker: it is proved as that one is."""

    UNRECORDED: ClassVar = frozenset[str]()

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="services", verbose_name=_("project"))
    kind = models.CharField(_("kind"), max_length=10, choices=Project.ServiceKind)
    name = models.CharField(
        _("name"),
        max_length=200,
        validators=[validate_one_line],
        help_text=_("As for the main service; of a process, words of its command line or its pid file."),
    )
    position = models.PositiveIntegerField(_("position"), default=0)

    class Meta:
        ordering: ClassVar = ["position", "id"]
        verbose_name = _("service")
        verbose_name_plural = _("services")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "kind", "name"],
                name="service_once_in_a_project",
                violation_error_message=_("The project has this service already."),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.name}"

    @property
    def places(self) -> list[Place]:
        """Those of its project."""
        return self.project.places

    def clean(self) -> None:
        """The name must fit the kind."""
        check_service(self.kind, self.name, self.project.deploy_path, "name")


class GivenCheck(models.Model):
    """One question that a server must answer after a restart.

    ``target`` by kind: ``process`` a part of the command line; ``systemd`` a unit; ``tcp`` ``[host:]port``;
    ``http`` a URL as seen from the server; ``command`` a shell command that must exit 0. ``expect`` is
    the expected HTTP status or a text in the answer, ``expect_header`` a ``Name: text`` in its headers;
    in both, ``{commit}`` and ``{release}`` are those of the release that is live on the server. Asked up
    to 1 + ``retries`` times, ``interval`` seconds apart, ``timeout`` seconds each; then healthy without a
    break for ``stable_for`` seconds.
    """

    class Kind(models.TextChoices):
        PROCESS = "process", _("Process")
        SYSTEMD = "systemd", _("systemd unit")
        TCP = "tcp", _("TCP port")
        HTTP = "http", _("HTTP")
        COMMAND = "command", _("Command")

    UNRECORDED: ClassVar = frozenset[str]()
    #: The kinds whose answer is read: {commit} and {release} in what they expect are filled in.
    READ: ClassVar = frozenset({Kind.HTTP, Kind.COMMAND})

    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    target = models.CharField(_("target"), max_length=500, validators=[validate_one_line])
    expect = models.CharField(_("expected"), max_length=200, blank=True, validators=[validate_one_line])
    expect_header = models.CharField(
        _("expected header"),
        max_length=200,
        blank=True,
        validators=[validate_header],
        help_text=_("For HTTP: a header that the answer must have, like “X-Release: {release}”."),
    )
    host_header = models.CharField(
        _("host header"),
        max_length=253,
        blank=True,
        validators=[validate_host],
        help_text=_("For HTTP: the site to ask for, if it is not the host in the URL."),
    )
    retries = models.PositiveIntegerField(_("retries"), default=5, validators=[MaxValueValidator(1000)])
    interval = models.PositiveIntegerField(_("interval (s)"), default=2, validators=[MaxValueValidator(3600)])
    timeout = models.PositiveIntegerField(
        _("timeout (s)"), default=5, validators=[MinValueValidator(1), MaxValueValidator(3600)]
    )
    stable_for = models.PositiveIntegerField(_("stable for (s)"), default=0, validators=[MaxValueValidator(3600)])
    required = models.BooleanField(
        _("required"),
        default=True,
        help_text=_("If ticked, failing the check fails the server; otherwise it is a warning."),
    )

    class Meta:
        abstract = True
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.target}"

    def clean(self) -> None:
        """The target must fit the kind, and so must what is expected."""
        if wrong := dict(self._objections()):
            raise ValidationError(wrong)

    def _objections(self) -> Iterator[tuple[str, str]]:
        try:
            check_target(self.kind, self.target)
        except ValueError as error:
            yield "target", str(error)
        if self.expect_header and self.kind != self.Kind.HTTP:
            yield "expect_header", str(_("Only the answer to an HTTP check has headers."))
        if self.kind in self.READ:
            for name in ("expect", "expect_header"):
                if problem := placeholder_problem(getattr(self, name)):
                    yield name, problem


class HealthCheck(FromTemplate, GivenCheck):
    """A health check of a project: those of its template come first."""

    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="health_checks", verbose_name=_("project")
    )

    class Meta:
        ordering: ClassVar = ["-from_template", "id"]
        verbose_name = _("health check")
        verbose_name_plural = _("health checks")

    @property
    def places(self) -> list[Place]:
        """Those of its project."""
        return self.project.places


class GivenVariable(models.Model):
    """A name and its value, for a build, for the scripts on the servers, or for both."""

    UNRECORDED: ClassVar = frozenset[str]()

    class Scope(models.TextChoices):
        BUILD = "build", _("Build")
        DEPLOY = "deploy", _("Deploy")
        BOTH = "both", _("Both")

    name = models.CharField(_("name"), max_length=100, validators=[validate_variable_name])
    value = EncryptedTextField(_("value"), blank=True, validators=[validate_no_nul])
    is_secret = models.BooleanField(
        _("secret"), default=False, help_text=_("Never shown again, and masked in every log.")
    )
    scope = models.CharField(_("scope"), max_length=10, choices=Scope, default=Scope.BOTH)
    value_from = models.CharField(
        _("value from"),
        max_length=400,
        blank=True,
        default="",
        validators=[validate_one_line],
        help_text=_(
            "Instead of a value: a source of this installation, like “vault:shop/token”. It is asked once for each "
            "deployment, before the first server is touched; what it gives is masked, and stored nowhere."
        ),
    )

    class Meta:
        abstract = True
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name

    def in_clear(self, name: str) -> str | None:
        """Its value, unless it is a secret or cannot be read: all values are encrypted."""
        return self.value if name == "value" and not self.is_secret and not is_unreadable(self) else None

    def shown_value(self) -> Any:
        """The value as a page may show it: a secret never is."""
        if self.value_from:
            return gettext("from %s") % self.value_from
        if is_unreadable(self):
            return _("cannot be read: enter it again")
        return "••••••" if self.is_secret else self.value

    @property
    def of_environment(self) -> str:
        """The environment whose sources it can have its value from; empty where all of them count."""
        raise NotImplementedError

    def clean(self) -> None:
        """It has a value or a source, and that is one of this installation."""
        if not self.value_from:
            return
        if not is_unreadable(self) and self.value:
            raise ValidationError({"value_from": _("Give a value or a source, not both.")})
        if why := problem_of(self.value_from, self.of_environment):
            raise ValidationError({"value_from": why})


class Variable(FromTemplate, GivenVariable):
    """An environment variable of a project's build, of its scripts on the servers, or of both.

    One with a ``server_group`` or a ``server`` counts in the scripts there alone, and before one for all: see
    `projects.effective`. One that ``is_prompt`` is a question at each launch: ``value`` is its answer where none is
    given, ``choices`` are the answers that it takes, one a line; without them it takes any.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="variables", verbose_name=_("project"))
    server_group = models.ForeignKey(
        ServerGroup,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="variables",
        verbose_name=_("server group"),
        help_text=_("Only on its servers, where it counts before the value for all."),
    )
    server = models.ForeignKey(
        Server,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="variables",
        verbose_name=_("server"),
        help_text=_("Only there, where it counts before the values of groups."),
    )
    is_prompt = models.BooleanField(
        _("asked at launch"),
        default=False,
        help_text=_("Each launch asks for it; the value is the answer where none is given."),
    )
    choices = models.TextField(
        _("answers"),
        blank=True,
        validators=[validate_choices],
        help_text=_("The answers that it takes, one a line. Empty: any."),
    )

    class Meta(GivenVariable.Meta):
        verbose_name = _("variable")
        verbose_name_plural = _("variables")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "name", "scope"],
                condition=models.Q(server_group=None, server=None),
                name="variable_once_in_a_scope",
                violation_error_message=_("There is another variable of this name and scope."),
            ),
            models.UniqueConstraint(
                fields=["project", "name", "scope", "server_group"],
                condition=models.Q(server_group__isnull=False),
                name="variable_once_in_a_scope_for_a_group",
                violation_error_message=_("There is another variable of this name and scope for this group."),
            ),
            models.UniqueConstraint(
                fields=["project", "name", "scope", "server"],
                condition=models.Q(server__isnull=False),
                name="variable_once_in_a_scope_for_a_server",
                violation_error_message=_("There is another variable of this name and scope for this server."),
            ),
            models.UniqueConstraint(
                fields=["project", "name"],
                condition=models.Q(is_prompt=True),
                name="variable_asked_once",
                violation_error_message=_("There is another question of this name."),
            ),
            models.CheckConstraint(
                condition=models.Q(server_group=None) | models.Q(server=None), name="variable_of_one_place"
            ),
            models.CheckConstraint(
                condition=models.Q(server_group=None, server=None)
                | (~models.Q(scope="build") & models.Q(is_prompt=False)),
                name="variable_of_a_place_for_its_scripts",
            ),
        ]

    @property
    def places(self) -> list[Place]:
        """Those of its project."""
        return self.project.places

    @property
    def place(self) -> ServerGroup | Server | None:
        """The group or the server that it is for; nothing where it is for all."""
        return self.server_group or self.server

    @property
    def choice_list(self) -> list[str]:
        """The answers that it takes, in their order; none where it takes any."""
        return choice_list(self.choices)

    @property
    def of_environment(self) -> str:
        """That of its project."""
        return self.project.environment

    def clean(self) -> None:
        """What one with a place cannot be, and what a question needs."""
        super().clean()
        if wrong := dict(self._objections()):
            raise ValidationError(wrong)

    def _objections(self) -> Iterator[tuple[str, Any]]:
        if self.server_group is not None and self.server is not None:
            yield "server", _("Choose a group or a server, not both.")
        if self.place is not None:
            if self.scope == self.Scope.BUILD:
                yield "scope", _("There is one build for all servers: a value for a group or a server is for “deploy”.")
            if self.is_prompt:
                yield (
                    "is_prompt",
                    _("A launch asks once, for all servers: a value for a group or a server is no question."),
                )
        if self.value_from and self.is_prompt:
            yield "value_from", _("Whoever launches answers a question: it has no source.")
        if self.choices and not self.is_prompt:
            yield "choices", _("Only a variable that is asked for at launch has answers to choose from.")
        elif self.choices and not is_unreadable(self) and self.value and self.value not in self.choice_list:
            yield "value", _("It is none of the answers.")


class VariableSetQuerySet(models.QuerySet["VariableSet"]):
    """Sets of variables."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those with which ``user`` may do this. People of a project see the sets that are attached to it."""
        reached = reach(user, action)
        own = reached.condition("environment")
        if action.changes or reached.is_everywhere:
            return self.filter(own)
        attached = AttachedSet.objects.filter(project__in=Project.objects.reached_by(user).values("pk"))
        return self.filter(own | models.Q(pk__in=attached.values("variable_set")))


VariableSetManager = models.Manager.from_queryset(VariableSetQuerySet)


class VariableSet(models.Model):
    """Variables that several projects use. ``environment`` says whose it is: its maintainers edit it, and attach it.

    Whoever edits a project that it is attached to lets scripts have its secrets: so nobody attaches one who may not
    edit it. Only projects of its environment have it; without one, it is for the projects of all.
    """

    objects = VariableSetManager()
    UNRECORDED: ClassVar = frozenset[str]()

    name = models.CharField(_("name"), max_length=100, unique=True, validators=[validate_one_line])
    description = models.TextField(_("description"), blank=True)
    environment = models.CharField(
        _("environment"),
        max_length=20,
        choices=Environment,
        blank=True,
        default="",
        help_text=_("Its maintainers edit the set and attach it. Empty: only those of all environments."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("variable set")
        verbose_name_plural = _("variable sets")

    def __str__(self) -> str:
        return self.name

    @property
    def places(self) -> list[Place]:
        """Where it belongs."""
        return [Place(self.environment)]

    @property
    def seen_from(self) -> list[Place]:
        """The same, and the projects that it is attached to."""
        rows = Project.objects.filter(attached_sets__variable_set=self) if self.pk else Project.objects.none()
        return [*self.places, *(place for project in rows for place in project.places)]

    def is_for(self, environment: str) -> bool:
        """Whether projects of that environment may have it."""
        return self.environment in ("", environment)


class SetVariable(GivenVariable):
    """A variable of a set."""

    variable_set = models.ForeignKey(
        VariableSet, on_delete=models.CASCADE, related_name="variables", verbose_name=_("variable set")
    )

    class Meta(GivenVariable.Meta):
        verbose_name = _("variable of a set")
        verbose_name_plural = _("variables of a set")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["variable_set", "name", "scope"], name="variable_once_in_a_scope_of_a_set"),
        ]

    @property
    def places(self) -> list[Place]:
        """Those of its set."""
        return self.variable_set.places

    @property
    def of_environment(self) -> str:
        """That of its set."""
        return self.variable_set.environment


class AttachedSet(models.Model):
    """A set that a project has. Of two that give the same name, the one at the later ``position`` counts."""

    UNRECORDED: ClassVar = frozenset[str]()

    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="attached_sets", verbose_name=_("project")
    )
    variable_set = models.ForeignKey(
        VariableSet, on_delete=models.PROTECT, related_name="attached", verbose_name=_("variable set")
    )
    position = models.PositiveIntegerField(_("position"), default=1, validators=[MaxValueValidator(1000)])

    class Meta:
        ordering: ClassVar = ["position", "id"]
        verbose_name = _("attached variable set")
        verbose_name_plural = _("attached variable sets")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "variable_set"], name="set_attached_once"),
        ]

    def __str__(self) -> str:
        return f"{self.variable_set}"

    @property
    def places(self) -> list[Place]:
        """Those of its project."""
        return self.project.places


class TemplateQuerySet(models.QuerySet["Template"]):
    """Templates of projects."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those with which ``user`` may do this. They are seen from each environment, and from their projects."""
        reached = reach(user, action)
        if reached.is_everywhere or (not action.changes and reached.holds_an_environment):
            return self
        if action.changes:
            return self.none()
        seen = Project.objects.reached_by(user).filter(template__isnull=False)
        return self.filter(pk__in=seen.order_by().values("template"))


TemplateManager = models.Manager.from_queryset(TemplateQuerySet)


class Template(models.Model):
    """What alike projects have in common: their settings, steps, health checks, variables and config files.

    It has the fields of `TEMPLATED`, as a project has them, and no secrets. A project has all of it but what is its
    own: see `projects.templates`. Only maintainers of everything change it: it reaches into projects everywhere.
    """

    objects = TemplateManager()
    UNRECORDED: ClassVar = frozenset[str]()

    name = models.CharField(_("name"), max_length=100, unique=True, validators=[validate_one_line])
    description = models.TextField(_("description"), blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("template")
        verbose_name_plural = _("templates")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("template", args=[self.pk])

    @property
    def places(self) -> list[Place]:
        """All of them: whoever changes it changes projects wherever they are."""
        return [EVERYWHERE]

    @property
    def seen_from(self) -> list[Place]:
        """Each environment, where somebody may choose it for a project, and wherever a project of it is."""
        rows = Project.objects.filter(template=self) if self.pk else Project.objects.none()
        return [*(Place(name) for name in Environment.values), *(place for row in rows for place in row.places)]


for _name in TEMPLATED:
    Template.add_to_class(_name, Project._meta.get_field(_name).clone())  # type: ignore[union-attr]  # they are columns


class _OfTemplate(models.Model):
    """A part of a template."""

    template: models.ForeignKey[Template, Template]

    class Meta:
        abstract = True

    @property
    def places(self) -> list[Place]:
        """Those of its template."""
        return self.template.places


class TemplateStep(_OfTemplate, GivenStep):  # noqa: DJ008 (it has that of GivenStep)
    """A step of a template."""

    template = models.ForeignKey(Template, on_delete=models.CASCADE, related_name="steps", verbose_name=_("template"))

    class Meta(GivenStep.Meta):
        abstract = False
        verbose_name = _("step of a template")
        verbose_name_plural = _("steps of a template")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["template", "name"],
                name="step_once_in_a_template",
                violation_error_message=_("The template has a step of this name already."),
            ),
        ]


class TemplateCheck(_OfTemplate, GivenCheck):
    """A health check of a template."""

    template = models.ForeignKey(
        Template, on_delete=models.CASCADE, related_name="health_checks", verbose_name=_("template")
    )

    class Meta(GivenCheck.Meta):
        abstract = False
        verbose_name = _("health check of a template")
        verbose_name_plural = _("health checks of a template")


class TemplateVariable(_OfTemplate):
    """A variable of a template; it is no secret, and for all servers."""

    UNRECORDED: ClassVar = frozenset[str]()

    template = models.ForeignKey(
        Template, on_delete=models.CASCADE, related_name="variables", verbose_name=_("template")
    )
    name = models.CharField(_("name"), max_length=100, validators=[validate_variable_name])
    value = models.TextField(_("value"), blank=True, validators=[validate_no_nul])
    scope = models.CharField(_("scope"), max_length=10, choices=GivenVariable.Scope, default=GivenVariable.Scope.BOTH)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("variable of a template")
        verbose_name_plural = _("variables of a template")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["template", "name", "scope"],
                name="variable_once_in_a_scope_of_a_template",
                violation_error_message=_("There is another variable of this name and scope."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Everybody who sees a project of it sees its values."""
        if looks_secret(self.name, self.value):
            raise ValidationError(
                {"name": _("A template has no secrets: give each project this variable, or a set of variables.")}
            )


class TemplateFile(_OfTemplate):
    """A config file of a template; it is no secret, and for all servers."""

    UNRECORDED: ClassVar = frozenset[str]()

    template = models.ForeignKey(
        Template, on_delete=models.CASCADE, related_name="config_files", verbose_name=_("template")
    )
    path = models.CharField(_("path"), max_length=300, validators=[validate_config_path])
    content = models.TextField(_("content"), blank=True, validators=[validate_no_nul, validate_content])
    is_template = models.BooleanField(
        _("template"), default=False, help_text=_("{{ NAME }} is replaced by a variable or a fact of the deployment.")
    )
    check_command = models.CharField(_("check"), max_length=500, blank=True, validators=[validate_check_of_file])
    mode = models.CharField(_("mode"), max_length=4, default="0640", validators=[validate_mode])
    owner = models.CharField(_("owner"), max_length=70, blank=True, validators=[validate_owner])
    position = models.PositiveIntegerField(_("position"), default=0)

    class Meta:
        ordering: ClassVar = ["position", "path", "id"]
        verbose_name = _("config file of a template")
        verbose_name_plural = _("config files of a template")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["template", "path"],
                name="config_file_once_in_a_template",
                violation_error_message=_("The template has this file already."),
            ),
        ]

    def __str__(self) -> str:
        return self.path
