"""How forms look and read, whatever they are about: styled boxes, write-only secrets, rows by their ids."""

from typing import Any, ClassVar, TypeVar

from django import forms
from django.core.validators import EMPTY_VALUES
from django.db import models
from django.utils.translation import gettext_lazy as _

M = TypeVar("M", bound=models.Model)


class MultilineField(forms.CharField):
    """Text of several lines with the line ends of a server: browsers send CRLF, which no shell script survives."""

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").replace("\r\n", "\n")


class WriteOnlyMixin:
    """A widget that never puts its value into the page, not even after a mistake elsewhere in the form."""

    def format_value(self, value: Any) -> None:
        return None


class WriteOnlyInput(WriteOnlyMixin, forms.PasswordInput):
    """One line, hidden while it is typed."""


class WriteOnlyTextarea(WriteOnlyMixin, forms.Textarea):
    """Several lines, as a private key has."""


class SecretsForm(forms.ModelForm[M]):
    """A form whose ``secret_widgets`` boxes are write-only: empty on the page, and left empty they change nothing."""

    secret_widgets: ClassVar[dict[str, type[forms.Widget]]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, widget in self.secret_widgets.items():
            if name in self.fields:
                self.make_write_only(name, widget())

    def make_write_only(self, name: str, widget: forms.Widget) -> None:
        """Turn the field ``name`` into a write-only box that says whether there is a value."""
        field = self.fields[name]
        field.widget = widget
        field.required = False
        widget.attrs |= {
            "autocomplete": "new-password",
            "placeholder": self._stored(name),
        }
        self.initial[name] = ""

    def _stored(self, name: str) -> Any:
        """What is stored, in words."""
        if self.is_unreadable(name):
            return _("Cannot be read: enter it again.")
        if getattr(self.instance, name):
            return _("Set. Leave empty to keep it.")
        return _("Not set.") if self.instance.pk else ""

    def is_unreadable(self, name: str) -> bool:
        """Whether a secret is stored that cannot be read: its row then holds something else than text."""
        return not isinstance(vars(self.instance).get(name, ""), str)

    def keep_if_empty(self, name: str) -> None:
        """Put the stored secret back where the box was left empty; one that cannot be read is asked for."""
        if self.cleaned_data.get(name) not in EMPTY_VALUES:
            return
        if self.is_unreadable(name):
            self.add_error(name, _("It cannot be read with the encryption keys at hand: enter it again."))
        else:
            self.cleaned_data[name] = getattr(self.instance, name)

    def clean(self) -> dict[str, Any]:
        super().clean()
        for name in self.secret_widgets:
            if name in self.fields and name not in self.errors:
                self.keep_if_empty(name)
        return self.cleaned_data


def dress(field: forms.Field, *, mono: bool = False) -> None:
    """Give the box of a field the classes of the stylesheet; ``mono`` is for what programs read."""
    widget = field.widget
    if isinstance(widget, forms.CheckboxInput | forms.RadioSelect | forms.CheckboxSelectMultiple):
        look = "form-check-input"
    elif isinstance(widget, forms.Select):
        look = "form-select"
    else:
        look = "form-control mono" if mono else "form-control"
        widget.attrs |= {"autocapitalize": "none"} if mono else {}
        widget.attrs.setdefault("autocomplete", "off")
    widget.attrs.setdefault("class", look)


class StyledForm(forms.BaseForm):
    """A form whose widgets look like those of the other pages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            dress(field)


class RowsField(forms.ModelMultipleChoiceField[M]):
    """Rows by their ids; an id too large for a database is refused like an unknown one."""

    def clean(self, value: Any) -> Any:
        for pk in value or ():
            if len(str(pk)) > 18:
                raise forms.ValidationError(
                    self.error_messages["invalid_pk_value"], code="invalid_pk_value", params={"pk": pk}
                )
        return super().clean(value)
