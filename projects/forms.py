"""The admin's form of a variable: the value of a secret goes in and never comes out."""

from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from servers.forms import SecretsForm, WriteOnlyTextarea

_SIZE = {"rows": 1, "cols": 40}


class VariableForm(SecretsForm):
    """A variable. Only a secret one is write-only; taking the tick away needs the value anew, so nothing leaks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "value" in self.fields and (self.instance.is_secret or self._is_sent_as_secret()):
            self.make_write_only("value", WriteOnlyTextarea(attrs=_SIZE))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if self.instance.is_secret and not cleaned.get("value"):
            if not cleaned.get("is_secret") and self.instance.value:
                raise ValidationError(
                    {"value": _("Enter the value again: a stored secret is not shown because the tick is taken away.")}
                )
            self.keep_if_empty("value")
        return cleaned

    def _is_sent_as_secret(self) -> bool:
        return self.is_bound and bool(self.data.get(self.add_prefix("is_secret")))
