"""The form of a channel: what every channel has, and the fields of the address of its kind."""

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from deployer.models import Channel, ChannelKind, Event
from deployer.notices.events import CHOICES, USUAL
from deployer.notices.kinds.every import FOR_ADMINS, KINDS
from pages.forms import PickedField, PickedRows, PickingForm, WriteOnlyInput, dress
from people.models import User
from people.recorded_forms import RecordedForm
from people.rights import Person, may
from people.roles import EVERYWHERE, Action
from projects.models import Project
from servers.fields import is_unreadable
from servers.models import Environment

_KEPT = _("Set. Leave empty to keep it.")


def kinds_for(user: Person) -> list[ChannelKind]:
    """The kinds of channel that somebody may make: any address at all is for whoever may do everything."""
    is_admin = may(user, Action.ADMINISTER, EVERYWHERE)
    return [kind for kind in ChannelKind if is_admin or kind not in FOR_ADMINS]


class ChannelForm(PickingForm, RecordedForm[Channel]):
    """A channel as ``user`` may have it: for projects and environments that they edit."""

    writes_too = ("address",)

    events = forms.MultipleChoiceField(
        label=_("Tells"), choices=[], widget=forms.CheckboxSelectMultiple, required=False
    )
    environments = forms.MultipleChoiceField(
        label=_("Environments"),
        choices=Environment.choices,
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text=_("None: all."),
    )
    language = forms.ChoiceField(label=_("Language"), required=False)

    class Meta:
        model = Channel
        fields = ("name", "events", "only_failures", "first_of_a_row", "environments", "projects", "language")
        field_classes: ClassVar = {"projects": PickedField}
        widgets: ClassVar = {"projects": PickedRows}

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        fields: dict[str, Any] = self.fields
        fields["projects"].queryset = Project.objects.reached_by(user, Action.EDIT).filter(archived_at=None)
        fields["projects"].help_text = _("None: all.")
        fields["language"].choices = [("", _("As the site")), *settings.LANGUAGES]
        fields["events"].choices = [(event.value, event.label) for event in CHOICES]
        if not self.instance.pk and "events" not in (kwargs.get("initial") or {}):
            self.initial["events"] = [event.value for event in USUAL]
        self.kind = KINDS[self.instance.kind]
        if self.kind.is_mark:
            for name in ("events", "only_failures", "first_of_a_row", "language"):
                del self.fields[name]
        self._stored: dict[str, str] = {}
        if self.instance.pk and not is_unreadable(self.instance, "address"):
            self._stored = dict(self.instance.address or {})
        for each in self.kind.fields:
            is_kept = each.is_secret and each.name in self._stored
            box = forms.CharField(
                label=each.label, help_text=each.help, required=each.required and not is_kept, strip=True
            )
            if each.is_secret:
                box.widget = WriteOnlyInput(attrs={"autocomplete": "new-password"})
            else:
                self.initial[self.box_of(each.name)] = self._stored.get(each.name, "")
            placeholder = _KEPT if is_kept else each.placeholder
            if placeholder:
                box.widget.attrs["placeholder"] = placeholder
            dress(box, mono=True)
            self.fields[self.box_of(each.name)] = box
        self.order_fields(["name", *(self.box_of(each.name) for each in self.kind.fields)])

    @staticmethod
    def box_of(name: str) -> str:
        """The box of a field of the address."""
        return f"a_{name}"

    def clean(self) -> dict[str, Any]:
        super().clean()
        self._clean_address()
        places = Channel.places_of(
            self.cleaned_data.get("environments", ()), self.cleaned_data.get("projects", Project.objects.none())
        )
        if not all(may(self.user, Action.EDIT, place) for place in places):
            self.add_error(None, _("Choose environments or projects: you have no right to edit all of these."))
        return self.cleaned_data

    def _clean_address(self) -> None:
        """Put the address together; what was left empty and is secret stays, unless it would go to another server."""
        given = {each.name: self.cleaned_data.get(self.box_of(each.name), "") for each in self.kind.fields}
        has_moved = any(
            given[each.name] != self._stored.get(each.name, "") for each in self.kind.fields if each.name == "server"
        )
        for each in self.kind.fields:
            if each.is_secret and not given[each.name] and each.name in self._stored:
                if has_moved:
                    self.add_error(self.box_of(each.name), _("Enter it again: it would go to another server."))
                given[each.name] = self._stored[each.name]
        try:
            self.instance.address = self.kind.cleaned(given)
        except forms.ValidationError as error:
            for name, errors in error.error_dict.items():
                if self.box_of(name) not in self.errors:
                    self.add_error(self.box_of(name), errors)

    def clean_events(self) -> list[str]:
        """In the order in which they are listed."""
        chosen = {*self.cleaned_data["events"]}
        return [event.value for event in Event if event in chosen]
