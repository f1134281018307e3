"""The encryption keys that rows of this database were written with, each by its fingerprint."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class EncryptionKey(models.Model):
    """A key that the database counts on, never the key itself: a process that lacks one of them does not start.

    ``fingerprint`` is derived from it (deployer.keyring), ``canary`` is a known text that it has sealed.
    """

    fingerprint = models.CharField(_("fingerprint"), max_length=16, primary_key=True)
    canary = models.TextField(editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["created_at", "fingerprint"]
        verbose_name = _("encryption key")
        verbose_name_plural = _("encryption keys")

    def __str__(self) -> str:
        return self.fingerprint
