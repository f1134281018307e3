"""The first answer to a request of the API that may come twice: whoever sends it again gets this one."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models

from people.models import ApiToken
from servers.fields import EncryptedTextField


class FirstAnswer(models.Model):
    """What was answered to a request with an idempotency key.

    ``key`` is a digest of the key that ``token`` gave, ``asked`` one of the request. ``status`` is null while it is
    being answered, and where its process was lost meanwhile. ``body`` is encrypted: an answer may hold a secret.
    """

    LASTS: ClassVar = timedelta(days=1)

    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=64, editable=False)
    asked = models.CharField(max_length=64, editable=False)
    status = models.PositiveSmallIntegerField(null=True, editable=False)
    body = EncryptedTextField(blank=True, editable=False)
    created_at = models.DateTimeField(editable=False, db_index=True)

    class Meta:
        default_permissions = ()  # nobody edits it
        constraints: ClassVar = [models.UniqueConstraint(fields=["token", "key"], name="one_first_answer_of_a_key")]

    def __str__(self) -> str:
        return f"{self.key[:12]}…"

    @classmethod
    def forget_old(cls, now: datetime) -> int:
        """Delete what has been kept long enough; gives how many there were. Where there is nothing, it only reads."""
        old = cls.objects.filter(created_at__lt=now - cls.LASTS)
        return old.delete()[0] if old.exists() else 0
