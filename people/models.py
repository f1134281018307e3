"""Who uses deployer: users and their API tokens. Nothing here knows a server or a project."""

import hashlib
import secrets
from datetime import timedelta
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from people.writes import if_nobody_else_writes

#: The use of a token is written down at most this often.
_USE_NOTED_EVERY = timedelta(minutes=1)


class User(AbstractUser):
    """Somebody who logs in. A model of our own, because Django's cannot be replaced once there are users."""

    def revoke_tokens(self) -> int:
        """Delete every API token of this user; gives how many there were."""
        return self.api_tokens.all().delete()[0]


class ApiToken(models.Model):
    """A bearer token of the JSON API. Only its SHA-256 is stored; the token itself is shown once.

    ``prefix`` is its first characters, to tell tokens apart on a page.
    """

    name = models.CharField(
        _("name"),
        max_length=100,
        validators=[
            RegexValidator(
                r"[\x00-\x1f\x7f]", _("Line breaks and control characters are not allowed here."), inverse_match=True
            )
        ],
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens", verbose_name=_("user"))
    prefix = models.CharField(_("begins with"), max_length=12, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)

    class Meta:
        ordering: ClassVar = ["name", "id"]
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @staticmethod
    def digest_of(token: str) -> str:
        """The stored form of ``token``. It has 256 random bits, so a plain hash is enough."""
        return hashlib.sha256(token.encode()).hexdigest()

    def renew(self) -> str:
        """Give this row a new token and return it: the only moment at which it can be seen."""
        token = f"dpl_{secrets.token_urlsafe(32)}"
        self.prefix, self.digest = token[:12], self.digest_of(token)
        return token

    @classmethod
    def find(cls, token: str) -> "ApiToken | None":
        """The row of ``token`` whose user may log in, its use recorded; or nothing."""
        row = cls.objects.select_related("user").filter(digest=cls.digest_of(token), user__is_active=True).first()
        if row is not None:
            row._note_use()
        return row

    def _note_use(self) -> None:
        """Write down that it was used; a request that only reads must not wait for that, or fail."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at >= _USE_NOTED_EVERY:
            with if_nobody_else_writes():
                type(self).objects.filter(pk=self.pk).update(last_used_at=now)


class FailureCount(models.Model):
    """How often something failed that strangers may try, as `people.counting` counts it. ``key`` is a digest."""

    key = models.CharField(primary_key=True, max_length=64, editable=False)
    level = models.FloatField(editable=False)
    at = models.DateTimeField(editable=False, db_index=True)

    class Meta:
        default_permissions = ()  # nobody edits it

    def __str__(self) -> str:
        return f"{self.key[:12]}… {self.level:.1f}"
