"""Log lines: all that was said during a deployment."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.db import connection, models
from django.utils.translation import gettext_lazy as _

from deployer.models.deployment import Deployment, Target
from people.roles import Place


class LineManager(models.Manager[Any]):
    """Lines of logs, numbered as they are written; ``run`` is the field that leads to what the log is of."""

    def __init__(self, run: str = "deployment") -> None:
        super().__init__()
        self.run = run

    def bulk_create(self, objs: Iterable[Any], *args: Any, **options: Any) -> list[Any]:
        """Write lines behind those that are there. A log has one writer at a time: nobody else takes their numbers."""
        lines = list(objs)
        last: dict[int, int] = {}
        for line in lines:
            pk = getattr(line, f"{self.run}_id")
            number = last.get(pk) or self.last_number(pk)
            line.number = last[pk] = number + 1
        return super().bulk_create(lines, *args, **options)

    def of(self, run_id: int) -> "models.QuerySet[Any]":
        """The lines of one log in their order, reached by its own index however it is asked for.

        Told that the deployment is one, PostgreSQL may walk through the ids of all lines, past millions of other logs.
        """
        if connection.vendor == "postgresql":
            lines = self.filter(**{f"{self.run}__gte": run_id, f"{self.run}__lte": run_id})
            return lines.order_by(f"{self.run}_id", "id")  # by “deployment” it would be in the order of deployments
        return self.filter(**{self.run: run_id}).order_by("id")

    def last_number(self, run_id: int) -> int:
        """The number of the last line of a log; 0 if it has none."""
        return self.of(run_id).reverse().values_list("number", flat=True).first() or 0


class Line(models.Model):
    """One line of a log, as every log has it.

    ``number`` is its place in the log, from 1. ``content`` is text that may hold ANSI colour sequences and never a
    secret.
    """

    class Stream(models.TextChoices):
        SYSTEM = "system", _("System")
        STDOUT = "stdout", _("Standard output")
        STDERR = "stderr", _("Standard error")

    class Level(models.TextChoices):
        INFO = "info", _("Info")
        WARNING = "warning", _("Warning")
        ERROR = "error", _("Error")

    number = models.PositiveIntegerField(_("number"), default=0, editable=False)
    stream = models.CharField(_("stream"), max_length=10, choices=Stream, default=Stream.SYSTEM)
    level = models.CharField(_("level"), max_length=10, choices=Level, default=Level.INFO)
    content = models.TextField(_("text"))
    timestamp = models.DateTimeField(_("time"))

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.content[:80]

    def save(self, *args: Any, **options: Any) -> None:
        """Write it; a new line comes behind those that are there."""
        if self._state.adding:
            lines: LineManager = type(self).objects  # type: ignore[attr-defined]
            self.number = lines.last_number(getattr(self, f"{lines.run}_id")) + 1
        super().save(*args, **options)


class LogLine(Line):
    """One line of a deployment's log; ``target`` is null for what the platform itself says."""

    objects = LineManager()

    deployment = models.ForeignKey(
        Deployment,
        on_delete=models.CASCADE,
        related_name="log_lines",
        db_index=False,
        verbose_name=_("deployment"),
    )
    target = models.ForeignKey(
        Target,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="log_lines",
        verbose_name=_("server of a deployment"),
    )

    class Meta:
        ordering: ClassVar = ["id"]
        verbose_name = _("log line")
        verbose_name_plural = _("log lines")
        indexes: ClassVar = [
            models.Index(fields=["deployment", "id"], name="log_of_deployment"),
            models.Index(fields=["deployment", "id"], name="errors_of_log", condition=models.Q(level="error")),
        ]

    @property
    def places(self) -> list[Place]:
        """Those of its deployment."""
        return self.deployment.places

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places
