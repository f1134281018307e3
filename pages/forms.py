"""How forms look and read, whatever they are about: styled boxes, write-only secrets, rows by their ids."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from django import forms
from django.core.paginator import Page, Paginator
from django.core.validators import EMPTY_VALUES
from django.db import models
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

M = TypeVar("M", bound=models.Model)
F = TypeVar("F", bound="PickingForm")

#: Of so many rows a page still lists all, to choose from. Where there are more they are searched, or typed by name.
LISTED = 50


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


class PickedRows(forms.SelectMultiple):
    """Boxes of the rows that a page shows; those that are ticked on no page of it are sent as a list of their ids."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        kept = [pk for pk in (data.get(f"{name}-kept") or "").split(",") if pk]
        return [*kept, *super().value_from_datadict(data, files, name)]


class PickedField(RowsField[M]):
    """Rows that are picked out of many: a page shows `LISTED` of them, the picked ones first, and a search for more."""

    widget = PickedRows
    #: The columns that are searched; by the first of them they are in order.
    searched: tuple[str, ...] = ("name",)

    def rows_like(self, text: str) -> "models.QuerySet[M]":
        """Those in which ``text`` is found."""
        wanted = models.Q()
        for column in self.searched:
            wanted |= models.Q((f"{column}__icontains", text))
        rows: models.QuerySet[M] = self.queryset  # type: ignore[assignment]  # it has one
        return rows.filter(wanted) if text else rows.all()


def _searched_for(asked: Mapping[str, Any], name: str) -> str:
    return str(asked.get(f"{name}-text") or "").strip()[:100]


class Picking:
    """What a page shows of a `PickedField`: some rows, and what is picked beside them.

    ``asked`` is the form as it was sent: it names the text that is searched for and the page.
    """

    def __init__(self, field: forms.BoundField, asked: Mapping[str, Any]) -> None:
        self.field, name = field, field.html_name
        self.text = _searched_for(asked, name)
        rows: Any = field.field
        picked = {int(pk) for pk in map(str, field.value() or ()) if pk.isdecimal() and len(pk) < 19}
        first = models.Case(models.When(pk__in=picked, then=0), default=1, output_field=models.IntegerField())
        found = rows.rows_like(self.text).annotate(place=first).order_by("place", rows.searched[0])
        self.page: Page[Any] = Paginator(found, LISTED).get_page(asked.get(f"{name}-page"))
        self.rows = [(row, row.pk in picked) for row in self.page]
        self.kept = sorted(picked - {row.pk for row in self.page})
        self.number = len(picked)
        self.is_long = bool(self.text) or self.page.paginator.num_pages > 1


class PickingForm(StyledForm):
    """A form with fields to pick rows for. It may be sent only to look at other rows: then nothing is to be saved."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: Mapping[str, Any] = self.data

    @property
    def _picked(self) -> list[str]:
        return [name for name, field in self.fields.items() if isinstance(field, PickedField)]

    @cached_property
    def picking(self) -> dict[str, Picking]:
        """What the page shows of each."""
        return {name: Picking(self[name], self.asked) for name in self._picked}

    @property
    def is_look(self) -> bool:
        """Whether another text or page is asked for than was shown."""
        asked = self.asked
        return any(
            f"{name}-page" in asked
            or (f"{name}-shown" in asked and _searched_for(asked, name) != asked.get(f"{name}-shown"))
            for name in self._picked
        )

    def as_filled_in(self) -> dict[str, Any]:
        """The values as they were typed, right or wrong, for a form of the same kind that has not been sent yet."""
        return {name: self[name].value() for name in self.fields}


def as_sent(kind: type[F], posted: Mapping[str, Any], **options: Any) -> F:
    """The form as it was sent; where other rows to pick were asked for, as it was filled in, and not to be saved."""
    form = kind(posted or None, **options)
    if not form.is_bound or not form.is_look:
        return form
    again = kind(**{**options, "initial": form.as_filled_in()})
    again.asked = posted
    return again


class NameInput(forms.TextInput):
    """A box for a name; those that fit are proposed as it is typed, by the page of that name."""

    def __init__(self, names_at: str, attrs: Any = None) -> None:
        self.names_at = names_at
        super().__init__({"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off", **(attrs or {})})

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        proposing = {
            "list": f"{name}-names",
            "hx-get": reverse(self.names_at),
            "hx-trigger": "focus once, input changed delay:200ms",
            "hx-target": f"#{name}-names",
            "hx-swap": "innerHTML",
            "hx-params": name,
            "hx-sync": "this:replace",
        }
        box = super().render(name, value, {**(attrs or {}), **proposing}, renderer)
        return format_html('{}<datalist id="{}-names"></datalist>', box, name)


class NamedField(forms.ModelChoiceField[M]):
    """One row: chosen from a list, or, once `settle` has found more than `LISTED`, typed by its name."""

    #: The page that proposes names.
    names_at = ""
    default_error_messages: ClassVar = {"no_such_name": _("There is none of this name: choose one that is proposed.")}

    def settle(self, *, is_small: bool = False) -> None:
        """Become a box for a name if there are many rows; a small one among the filters of a list."""
        rows: Any = self.queryset
        if len(rows.order_by().values_list("pk")[: LISTED + 1]) > LISTED:
            self.widget = NameInput(self.names_at, {"placeholder": self.empty_label or ""})
            self.widget.is_required = self.required
            dress(self)
            if is_small:
                self.widget.attrs["class"] = "form-control form-control-sm"

    @property
    def is_typed(self) -> bool:
        return isinstance(self.widget, NameInput)

    def named(self, value: Any) -> M | None:
        """The row of that name, or of that id."""
        rows: Any = self.queryset
        text = str(value)
        found: M | None = rows.filter(name=text).first()
        if found is None and text.isdecimal() and len(text) < 19:
            found = rows.filter(pk=int(text)).first()
        return found

    def prepare_value(self, value: Any) -> Any:
        if not self.is_typed or value in EMPTY_VALUES:
            return super().prepare_value(value)
        row = value if isinstance(value, models.Model) else self.named(value)
        return value if row is None else getattr(row, "name", value)

    def to_python(self, value: Any) -> M | None:
        if not self.is_typed or value in EMPTY_VALUES or isinstance(value, models.Model):
            return super().to_python(value)
        row = self.named(value)
        if row is None:
            raise forms.ValidationError(self.error_messages["no_such_name"], code="no_such_name")
        return row
