"""Questions: a deployment that met failures waits, and a person chooses how it goes on."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from deployer.models.deployment import Deployment
from deployer.models.happenings import Happening, deployment_moved
from people.models import User
from people.now import Now
from people.roles import Place


class Answer(models.TextChoices):
    """What is chosen where servers or steps have failed."""

    AGAIN = "again", _("Try these servers again")
    GO_ON = "go_on", _("Go on without them")
    ROLL_BACK = "roll_back", _("Roll back")
    STOP = "stop", _("Stop")


class FailureQuestion(models.Model):
    """What a deployment waits for: the ``failures`` that it met, and the ``choices`` that there are.

    A failure is ``{"key": ..., "target": ..., "server": ..., "what": ..., "error": ..., "proof": ..., "evidence": ...,
    "required": ..., "again": ..., "has_run": ...}``: its key is that of the run that failed, so that no later one is
    meant by it; ``has_run`` says whether the script of the server had begun.
    ``token`` stands for these failures: an answer that carries another one was meant for others, and is refused.
    Without an answer ``until`` then, it stops. ``acted_at`` is when a worker has done what was chosen.
    """

    deployment = models.ForeignKey(
        Deployment, on_delete=models.CASCADE, related_name="questions", verbose_name=_("deployment")
    )
    asked_at = models.DateTimeField(_("asked"))
    until = models.DateTimeField(_("until"))
    failures = models.JSONField(_("failures"), default=list)
    choices = models.JSONField(_("choices"), default=list)
    token = models.CharField(max_length=64, editable=False)
    answer = models.CharField(_("answer"), max_length=10, choices=Answer, blank=True)
    answered_at = models.DateTimeField(_("answered"), null=True, blank=True)
    answered_by = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("answered by"),
    )
    answered_for = models.CharField(_("answered for"), max_length=200, blank=True)
    acted_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering: ClassVar = ["id"]
        verbose_name = _("question of a deployment")
        verbose_name_plural = _("questions of deployments")

    def __str__(self) -> str:
        return f"{self.deployment}: {self.get_answer_display() or self.asked_at}"

    @property
    def places(self) -> list[Place]:
        """Those of its deployment."""
        return self.deployment.places

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    @property
    def is_open(self) -> bool:
        """Whether nobody has answered it, and its time is not over."""
        return not self.answer

    @property
    def who(self) -> str:
        """Who has answered it; empty where its time was over."""
        return self.answered_by.get_username() if self.answered_by else self.answered_for

    @classmethod
    def ask(
        cls,
        deployment: Deployment,
        failures: Sequence[Mapping[str, Any]],
        choices: Collection[str],
        *,
        minutes: int,
        batch: int,
    ) -> "FailureQuestion | None":
        """Have ``deployment`` wait for an answer. Only the worker that holds the claim can: else nothing."""
        until = Now() + timedelta(minutes=minutes)
        values = {"paused_at": Now(), "asked_at": Now(), "paused_until": until, "batches_done": batch}
        with transaction.atomic():
            if deployment.held().update(**values) != 1:
                return None
            row = cls(deployment=deployment, failures=[*failures], choices=[*choices], token=token_of(failures))
            row.asked_at, row.until = Now(), until
            row.save(force_insert=True)
            deployment_moved.send_robust(Deployment, deployment=deployment, what=Happening.ASKS)
        row.refresh_from_db(fields=["asked_at", "until"])
        return row

    def give(self, answer: str, user: User | None, answered_for: str = "") -> bool:
        """Answer it. Says whether that won: its time was not over, and nobody has answered, cancelled or ended it."""
        who = {"answered_by": user, "answered_for": "" if user else answered_for}
        return self._settle(models.Q(paused_until__gt=Now()), answer=answer, **who)

    def stop_in_time(self) -> bool:
        """Stop, where its time is over. Says whether that won."""
        return self._settle(models.Q(paused_until__lte=Now()), answer=Answer.STOP)

    def _settle(self, condition: models.Q, **values: Any) -> bool:
        rows = Deployment.objects.active().paused().filter(condition, pk=self.deployment_id, cancel_requested_at=None)
        over: dict[str, Any] = {**Deployment.PAUSE_OVER}
        if values["answer"] == Answer.ROLL_BACK:
            over["roll_back_requested_at"] = Now()
        with transaction.atomic():
            if rows.exclude(asked_at=None).update(**over) != 1:
                return False
            open_ones = FailureQuestion.objects.filter(pk=self.pk, answer="")
            if open_ones.update(answered_at=Now(), **values) != 1:
                transaction.set_rollback(True)  # an older question: the deployment waits for another answer
                return False
        self.refresh_from_db(fields=["answered_at", *values])
        return True

    def begin_to_act(self) -> bool:
        """Write that a worker does what was chosen; it does so once."""
        rows = FailureQuestion.objects.filter(pk=self.pk, acted_at=None, deployment__in=self.deployment.held())
        won = rows.exclude(answer="").update(acted_at=Now()) == 1
        if won:
            self.refresh_from_db(fields=["acted_at"])
        return won


def token_of(failures: Sequence[Mapping[str, Any]]) -> str:
    """What stands for these failures and no others."""
    keys = sorted(str(failure["key"]) for failure in failures)
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:16]
