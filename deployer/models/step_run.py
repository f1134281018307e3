"""Runs of steps: each is written down before it begins, so that nothing runs twice whoever is lost."""

from typing import Any, ClassVar

from django.db import IntegrityError, models, transaction
from django.utils.translation import gettext_lazy as _

from deployer.models.deployment import Deployment, Target
from people.now import Now
from people.roles import Place
from projects.steps import Moment, step_label


class StepAction(models.TextChoices):
    """What a server is being done when a step runs there: its DEPLOY_ACTION."""

    DEPLOY = "deploy", _("Deploy")
    RESTART = "restart", _("Restart")
    ROLLBACK = "rollback", _("Roll back")
    UNDO = "undo", _("Put back")


class StepRun(models.Model):
    """One run of a step on a server of a deployment, or on the platform: then it has no ``target``.

    ::

        running → done, failed, unknown; or skipped, where the worker was lost before it began

    ``key`` names its private folder on the server: whoever takes over finds it by that, follows it, and starts nothing
    again. ``release`` is the one that it was run for. ``undoes``: it was the step's ``undone_by``. ``fingerprint`` is
    that of its text: a step that was changed since is another one. ``problem`` says why it is not done.

    One on the platform is ended with its worker: it is followed by nobody, and unknown from then on.
    """

    class Status(models.TextChoices):
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        UNKNOWN = "unknown", _("Unknown")
        SKIPPED = "skipped", _("Skipped")

    #: The moments of which a deployment has each step once, wherever it runs.
    ONCE: ClassVar = (Moment.BEFORE_ALL, Moment.AFTER_ALL)
    #: Those that lead up to a switch.
    BEFORE_THE_SWITCH: ClassVar = frozenset({Moment.PREPARE, Moment.BEFORE_ALL, Moment.BEFORE})

    deployment = models.ForeignKey(
        Deployment, on_delete=models.CASCADE, related_name="step_runs", verbose_name=_("deployment")
    )
    target = models.ForeignKey(
        Target,
        on_delete=models.CASCADE,
        related_name="step_runs",
        null=True,
        blank=True,
        verbose_name=_("server of a deployment"),
    )
    step = models.CharField(_("step"), max_length=60)
    moment = models.CharField(_("moment"), max_length=10, choices=Moment)
    action = models.CharField(_("action"), max_length=10, choices=StepAction)
    undoes = models.BooleanField(_("takes it back"), default=False)
    release = models.CharField(_("release"), max_length=300, blank=True)
    fingerprint = models.CharField(max_length=64, editable=False)
    key = models.CharField(max_length=32, unique=True, editable=False)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.RUNNING)
    exit_code = models.IntegerField(_("exit status"), null=True, blank=True)
    problem = models.TextField(_("problem"), blank=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["id"]
        verbose_name = _("run of a step")
        verbose_name_plural = _("runs of steps")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["target", "step", "action", "undoes", "release"], name="step_once_on_a_server"
            ),
            models.UniqueConstraint(
                fields=["deployment", "step", "undoes", "release"],
                condition=models.Q(moment__in=["before_all", "after_all"]) | models.Q(target=None),
                name="step_once_in_a_deployment",
            ),
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def places(self) -> list[Place]:
        """Those of its deployment."""
        return self.deployment.places

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    @property
    def label(self) -> str:
        """Its moment and its name, and that it runs on the platform."""
        name = str(_("%s, taken back") % self.step) if self.undoes else self.step
        return step_label(self.moment, name, is_on_platform=self.is_on_platform)

    @property
    def is_on_platform(self) -> bool:
        """Whether it runs on this machine, and on no server."""
        return self.target_id is None

    @property
    def is_before_the_switch(self) -> bool:
        """Whether it leads up to a switch, and is no part of a way back: then a cancel ends it."""
        leads_up = self.moment in self.BEFORE_THE_SWITCH
        return leads_up and not self.undoes and self.action != StepAction.UNDO

    @property
    def has_begun(self) -> bool:
        """Whether it may have done anything."""
        return self.status != self.Status.SKIPPED

    @property
    def is_done(self) -> bool:
        """Whether it went well."""
        return self.status == self.Status.DONE

    def begin(self) -> bool:
        """Write it, before it begins, while its deployment is held by the worker at hand. Says whether it won.

        What is in the log of the output of its server is that of this run from here on.
        """
        deployment = self.deployment
        try:
            with transaction.atomic():
                if deployment.helper:  # an update that waits for the row asks no more who has a slice
                    deployment.lock()
                    if not deployment.held().exists():
                        return False
                elif deployment.held().update(claim=deployment.claim) != 1:
                    return False
                self.started_at = Now()
                self.save(force_insert=True)
                self._touch(stdout_logged=0, stderr_logged=0)
        except IntegrityError:  # written already, by an attempt whose answer was lost
            self.pk = StepRun.objects.values_list("pk", flat=True).get(key=self.key)
        if self.target is not None:
            self.target.stdout_logged = self.target.stderr_logged = 0
        return True

    def _touch(self, **values: int) -> None:
        """Let pages see the change, by the revision of its server or of its deployment; ``values`` are the server's."""
        if self.target_id is not None:
            Target.objects.filter(pk=self.target_id).update(**values)
        else:
            Deployment.objects.filter(pk=self.deployment_id).update(revision=models.F("revision") + 1)

    def end(self, status: "StepRun.Status", **values: Any) -> bool:
        """Write how it ended; the first end stays, and only the worker that holds the deployment writes one."""
        values |= {"status": status, "finished_at": Now()}
        rows = StepRun.objects.filter(pk=self.pk, status=self.Status.RUNNING, deployment__in=self.deployment.held())
        won = rows.update(**values) == 1
        if won:
            self._touch()
        self.refresh_from_db(fields=[*values])
        return won
