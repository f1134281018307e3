"""Triggers: what launches by itself, and what holds it after something was rolled back."""

from typing import Any, ClassVar, Self

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from people.models import User
from people.record import Act, actor, changes, record, snapshot
from people.rights import Person, reach
from people.roles import Action, Place
from projects.models import Project
from servers.validators import validate_one_line

#: Characters of a reason.
LONGEST_REASON = 500


class TriggerHoldQuerySet(models.QuerySet["TriggerHold"]):
    """Holds of triggers."""

    def open(self) -> Self:
        """Those that nobody has lifted."""
        return self.filter(lifted_at=None)

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those of the projects with which ``user`` may do this."""
        return self.filter(reach(user, action).condition("project__environment", "project"))

    def begin(
        self,
        project: Project,
        reason: str,
        *,
        deployment: models.Model | None = None,
        by: User | None = None,
        login: str = "",
    ) -> bool:
        """Hold what launches ``project`` by itself; one that is open stays as it is. Says whether none was."""
        values: dict[str, Any] = {"reason": reason[:LONGEST_REASON], "deployment": deployment}
        values |= {"made_by": by, "made_for": "" if by else login}
        with transaction.atomic():
            hold, is_new = self.get_or_create(project=project, lifted_at=None, defaults=values)
            if is_new:
                record(actor().by(by), Act.HELD, hold, None, changes({}, snapshot(hold))[1], note=hold.reason)
        return is_new


TriggerHoldManager = models.Manager.from_queryset(TriggerHoldQuerySet)


class TriggerHold(models.Model):
    """What launches a project by itself waits since then: a rollback would be undone by the next push.

    One of a project is open. ``deployment`` is the rollback, or what was put back; nothing where somebody has made it
    by hand. Those that were lifted stay, with who did it.
    """

    UNRECORDED: ClassVar = frozenset[str]()
    RECORDED_AS: ClassVar = {Act.CREATED: Act.HELD}

    objects = TriggerHoldManager()

    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="trigger_holds", verbose_name=_("project")
    )
    reason = models.CharField(_("reason"), max_length=LONGEST_REASON, validators=[validate_one_line])
    deployment = models.ForeignKey(
        "deployer.Deployment",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("deployment"),
    )
    since = models.DateTimeField(_("since"), auto_now_add=True)
    made_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("made by")
    )
    made_for = models.CharField(_("made for"), max_length=200, blank=True, editable=False)
    lifted_at = models.DateTimeField(_("lifted"), null=True, blank=True, editable=False)
    lifted_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )
    lifted_for = models.CharField(max_length=200, blank=True, editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("hold of triggers")
        verbose_name_plural = _("holds of triggers")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project"], condition=models.Q(lifted_at=None), name="one_open_hold_of_triggers"
            ),
        ]

    def __str__(self) -> str:
        return self.reason

    @property
    def maker(self) -> str:
        """Who made it: a user, else the login on the machine; empty where it came by itself."""
        return self.made_by.get_username() if self.made_by else self.made_for

    @property
    def lifter(self) -> str:
        """Who lifted it, in the same way."""
        return self.lifted_by.get_username() if self.lifted_by else self.lifted_for

    @property
    def places(self) -> list[Place]:
        """Its project's."""
        return self.project.places

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    def lift(self, by: User | None, login: str = "") -> bool:
        """Let triggers launch again. Says whether they were held until now."""
        values = {"lifted_at": timezone.now(), "lifted_by": by, "lifted_for": "" if by else login}
        return TriggerHold.objects.open().filter(pk=self.pk).update(**values) == 1
