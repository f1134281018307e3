"""Steps: what a deployment does around the switch and the restart, besides them."""

from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from people.refusals import RefusedError
from people.roles import Place
from projects.validators import validate_launches, validate_user_name
from servers.validators import validate_no_nul, validate_one_line

#: Characters of a script: it goes to the server as one word of a command, which may have 128 KiB there.
LONGEST_SCRIPT = 30_000


class Moment(models.TextChoices):
    """When a step runs, and where.

    ::

        prepare      every server, in the new release; nothing is switched yet
        before_all   one server, once, before the first switch
        before       every server, just before its own switch or restart
        after        every server, just after its service was proved, and however its turn ends
        after_all    one server, once, at the end

    On the platform itself: prepare in the tree that was built, before all and after all in an empty folder, each once.
    """

    PREPARE = "prepare", _("Prepare")
    BEFORE_ALL = "before_all", _("Before all")
    BEFORE = "before", _("Before")
    AFTER = "after", _("After")
    AFTER_ALL = "after_all", _("After all")


class StepKind(models.TextChoices):
    """Where a step runs: on servers, or on the platform itself, kept apart from it like a build."""

    SERVER = "server", _("On the servers")
    PLATFORM = "platform", _("On the platform")


#: The moments of steps on the platform: a server's turn has none of them.
PLATFORM_MOMENTS = frozenset({Moment.PREPARE, Moment.BEFORE_ALL, Moment.AFTER_ALL})


class When(models.TextChoices):
    """After which ends a step of the last two moments runs."""

    SUCCESS = "success", _("Only after success")
    FAILURE = "failure", _("Only after failure")
    ALWAYS = "always", _("Always")


class Launched(models.TextChoices):
    """What is launched, as a step tells it apart."""

    FULL = "full", _("Full")
    RESTART_ONLY = "restart_only", _("Restart only")
    ROLLBACK = "rollback", _("Rollback")


#: The launches that a step is for which names none: what changes a release or a database is for deploying alone.
USUAL_TYPES: dict[str, tuple[str, ...]] = {
    Moment.PREPARE: (Launched.FULL,),
    Moment.BEFORE_ALL: (Launched.FULL,),
    Moment.BEFORE: tuple(Launched.values),
    Moment.AFTER: tuple(Launched.values),
    Moment.AFTER_ALL: tuple(Launched.values),
}
#: The ends after which a step runs that names none: whoever was drained comes back, however it ended.
USUAL_WHEN: dict[str, str] = {Moment.AFTER: When.ALWAYS, Moment.AFTER_ALL: When.SUCCESS}


def step_label(moment: str, name: str, *, is_on_platform: bool) -> str:
    """What a step is called: its moment and its name, and that it runs on the platform."""
    words = {"moment": Moment(moment).label, "step": name}
    return gettext("%(moment)s, on the platform: %(step)s") % words if is_on_platform else f"{words['moment']}: {name}"


SomeStep = TypeVar("SomeStep", bound="GivenStep")


def by_moment(steps: "Iterable[SomeStep]") -> "list[SomeStep]":
    """``steps`` as they run: by moment; those of one moment stay in their order."""
    places = {moment: place for place, moment in enumerate(Moment.values)}
    return sorted(steps, key=lambda step: places.get(step.moment, 0))


class StepQuerySet(models.QuerySet["Step"]):
    """Steps of projects."""

    def in_order(self) -> list["Step"]:
        """By moment, then by position: as they run."""
        return by_moment(self)


StepManager = models.Manager.from_queryset(StepQuerySet)


class FollowsError(RefusedError, PermissionDenied):
    """A part of a project comes from its template: deleted here, it would come back with the template's next change."""


class FromTemplate(models.Model):
    """A part of a project that may come from the project's template: then the template's changes reach it.

    Whoever else saves it makes it the project's own.
    """

    from_template = models.BooleanField(_("from the template"), default=False, editable=False)

    #: Set by what brings a template's part to a project.
    is_following = False

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.from_template and not self.is_following:
            self.from_template = False
            if kwargs.get("update_fields") is not None:
                kwargs["update_fields"] = [*kwargs["update_fields"], "from_template"]
        super().save(*args, **kwargs)

    def insist_on_own(self) -> None:
        """Raises `FollowsError`."""
        if self.from_template:
            told = gettext("“%s” comes from the template of the project: delete it there, or make it its own first.")
            raise FollowsError(told % self)


class GivenStep(models.Model):
    """A script that a deployment runs on servers at one `Moment`.

    ``types`` and ``when`` may be empty: then they are what is usual at its moment. ``undone_by`` is a script that
    takes back what a step before all has done; without it, nothing does, and the project says so wherever somebody
    wants to go back. ``run_as`` is another user than the project's. A required step that fails ends what it belongs to:
    the server's turn, or the deployment. One of the ``kind`` platform never touches a server.
    """

    UNRECORDED: ClassVar = frozenset[str]()

    name = models.CharField(_("name"), max_length=60, validators=[validate_one_line])
    moment = models.CharField(
        _("moment"),
        max_length=10,
        choices=Moment,
        help_text=_(
            "Prepare: on every server, in the new release, before anything is switched. Before and after: on every "
            "server, around its own restart. Before all and after all: on one server, once, around the rollout."
        ),
    )
    kind = models.CharField(
        _("where it runs"),
        max_length=10,
        choices=StepKind,
        default=StepKind.SERVER,
        help_text=_(
            "On the platform: once, isolated like a build. Prepare: in the tree that was built; before all and after "
            "all: in an empty folder."
        ),
    )
    when = models.CharField(
        _("after which end"),
        max_length=10,
        choices=When,
        blank=True,
        help_text=_("Of steps after: always, if nothing is chosen; of steps after all: after success."),
    )
    types = models.JSONField(
        _("launches"),
        default=list,
        blank=True,
        validators=[validate_launches],
        help_text=_("Without any: prepare and before all with full deployments, the others always."),
    )
    script = models.TextField(
        _("script"),
        validators=[validate_no_nul, MaxLengthValidator(LONGEST_SCRIPT)],
        help_text=_("Run by bash in the folder of the release; a line that fails ends it."),
    )
    undone_by = models.TextField(
        _("undone by"),
        blank=True,
        validators=[validate_no_nul, MaxLengthValidator(LONGEST_SCRIPT)],
        help_text=_("A script that takes back what a step before all has done. Empty: nothing takes it back."),
    )
    run_as = models.CharField(
        _("run as"),
        max_length=32,
        blank=True,
        validators=[validate_user_name],
        help_text=_("Empty: the user of the project's scripts."),
    )
    timeout = models.PositiveIntegerField(
        _("timeout (s)"), default=600, validators=[MinValueValidator(1), MaxValueValidator(86_400)]
    )
    required = models.BooleanField(
        _("required"),
        default=True,
        help_text=_("If ticked, failing the step fails the server, or all of the deployment; otherwise it warns."),
    )
    position = models.PositiveIntegerField(
        _("position"), default=0, help_text=_("Steps of one moment run in this order.")
    )

    class Meta:
        abstract = True
        ordering: ClassVar = ["position", "id"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_on_platform(self) -> bool:
        """Whether it runs on this machine, and on no server."""
        return self.kind == StepKind.PLATFORM

    def clean(self) -> None:
        """Only what may have failed by then has an end to wait for; only what is done once for all is undone.

        On the platform there is no turn of a server, and no user but that of builds.
        """
        wrong = {}
        if self.is_on_platform and self.moment and self.moment not in PLATFORM_MOMENTS:
            wrong["moment"] = _("On the platform, steps are run to prepare, before all and after all.")
        if self.is_on_platform and self.run_as:
            wrong["run_as"] = _("A step on the platform is isolated like a build, and runs as nobody else.")
        if self.when and self.moment not in USUAL_WHEN:
            wrong["when"] = _("Only steps after and after all wait for an end.")
        if self.undone_by and self.moment != Moment.BEFORE_ALL:
            wrong["undone_by"] = _("Only a step before all is taken back: steps after end what steps before have done.")
        if wrong:
            raise ValidationError(wrong)


class Step(FromTemplate, GivenStep):
    """A step of a project: at each moment those of its template come first."""

    objects = StepManager()

    project = models.ForeignKey(
        "projects.Project", on_delete=models.CASCADE, related_name="steps", verbose_name=_("project")
    )

    class Meta:
        ordering: ClassVar = ["-from_template", "position", "id"]
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "name"],
                name="step_once_in_a_project",
                violation_error_message=_("The project has a step of this name already."),
            ),
        ]

    @property
    def places(self) -> list[Place]:
        """Those of its project."""
        return self.project.places
