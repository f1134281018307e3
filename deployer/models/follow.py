"""Logs of applications while somebody looks at them: what is followed, and the lines that came."""

from typing import Any, ClassVar, Self

from django.db import models
from django.db.models.functions import Now as DefaultNow  # noqa: TID251  # in the schema
from django.utils.translation import gettext_lazy as _

from people.now import Now
from people.rights import Person, reach
from people.roles import Action, Place
from projects.models import Project
from servers.models import Server


class LogFollowQuerySet(models.QuerySet["LogFollow"]):
    """Logs that are followed."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those of projects that ``user`` operates: an application may print what concerns people."""
        least = Action.OPERATE if action is Action.SEE else action
        return self.filter(reach(user, least).condition("project__environment", "project"))

    def open(self) -> Self:
        """Those that have not ended."""
        return self.filter(ended_at=None)


LogFollowManager = models.Manager.from_queryset(LogFollowQuerySet)


class LogFollow(models.Model):
    """One log of a project on one server, followed by one login for everybody who looks at it.

    ``asked_at`` is when somebody last asked for news: without that it ends, and it never goes on for long.
    ``claim`` and ``beat_at`` are those of the worker that follows it, which has been on the server since ``begun_at``.
    ``has_failed``: it ended because it cannot be followed. Its lines go with it, soon after its end.
    """

    objects = LogFollowManager()

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+", verbose_name=_("project"))
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="+", verbose_name=_("server"))
    kind = models.CharField(_("kind"), max_length=20)
    name = models.CharField(_("name"), max_length=300)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    asked_at = models.DateTimeField(_("last asked for"), db_default=DefaultNow())
    begun_at = models.DateTimeField(_("began"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    end = models.TextField(_("why it ended"), blank=True)
    has_failed = models.BooleanField(_("failed"), default=False)
    claim = models.CharField(max_length=32, blank=True, editable=False)
    beat_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering: ClassVar = ["id"]
        verbose_name = _("log that is followed")
        verbose_name_plural = _("logs that are followed")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "server", "kind", "name"],
                condition=models.Q(ended_at=None),
                name="one_follower_of_a_log",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.project}: {self.name} ({self.server})"

    @property
    def places(self) -> list[Place]:
        """Those of its project."""
        return self.project.places

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    def begin(self) -> None:
        """Write that a login is on the server; only whoever holds it can."""
        LogFollow.objects.open().filter(pk=self.pk, claim=self.claim).update(begun_at=Now())

    def finish(self, why: str, *, has_failed: bool = False) -> bool:
        """Write why it ended; only whoever holds it can. Says whether it won."""
        rows = LogFollow.objects.open().filter(pk=self.pk, claim=self.claim)
        return rows.update(ended_at=Now(), end=why, has_failed=has_failed) == 1


class FollowedLine(models.Model):
    """A line of a log that is followed, masked and clean; ``stream`` is ``system`` for what deployer says."""

    follow = models.ForeignKey(LogFollow, on_delete=models.CASCADE, related_name="lines", db_index=False)
    stream = models.CharField(max_length=10)
    content = models.TextField()
    timestamp = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [models.Index(fields=["follow", "id"], name="lines_of_follow")]

    def __str__(self) -> str:
        return self.content[:80]

    @staticmethod
    def write(follow: LogFollow, rows: list[dict[str, Any]]) -> None:
        """Write new lines."""
        FollowedLine.objects.bulk_create(FollowedLine(follow=follow, **row) for row in rows)
