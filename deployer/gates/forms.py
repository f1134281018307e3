"""The forms of gates: locks, freezes, the hold, what is required, and a decision."""

from typing import Any, ClassVar
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext_lazy as _

from deployer.gates.reasons import said
from deployer.models import LONGEST_REASON, Freeze, Gate, GateRule, Lock
from pages.forms import PickedField, PickedRows, PickingForm, StyledForm
from people.models import User
from people.recorded_forms import RecordedForm
from people.rights import reach
from people.roles import Action
from projects.models import Project
from servers.models import Environment
from servers.validators import validate_one_line


class GateForm(PickingForm, RecordedForm[Any]):
    """A gate before an environment or a project: those where ``user`` may do what its ``action`` says."""

    action: ClassVar = Action.EDIT
    writes_too = ("project", "environment")
    place = forms.ChoiceField(label=_("Before"))

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = dict(Environment.choices)
        environments = [(f"environment-{name}", known[name]) for name in reach(user, self.action).environments(known)]
        projects = [
            (f"project-{project.pk}", f"{project.label} ({project.get_environment_display()})")
            for project in Project.objects.reached_by(user, self.action).only("name", "environment", "archived_at")
            if not project.is_archived or project.pk == self.instance.project_id
        ]
        place: Any = self.fields["place"]
        place.choices = [("", _("Choose one")), (_("Environments"), environments), (_("Projects"), projects)]
        if self.instance.pk:
            gate = self.instance
            self.initial["place"] = (
                f"project-{gate.project_id}" if gate.project_id else f"environment-{gate.environment}"
            )

    def clean_reason(self) -> str:
        """One line, as it is shown."""
        return _said(self.cleaned_data["reason"])

    def clean(self) -> dict[str, Any]:
        super().clean()
        kind, _dash, name = self.cleaned_data.get("place", "").partition("-")
        gate: Gate = self.instance
        gate.project = Project.objects.get(pk=int(name)) if kind == "project" else None
        gate.environment = name if kind == "environment" else ""
        return self.cleaned_data


def _said(reason: str) -> str:
    if not (text := said(reason)):
        raise forms.ValidationError(_("Say why."))
    return text


def _moment() -> forms.DateTimeInput:
    return forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")


class LockForm(GateForm):
    """A new lock."""

    action = Action.OPERATE

    class Meta:
        model = Lock
        fields = ("reason", "until", "is_warning")
        widgets: ClassVar = {"until": _moment()}

    field_order = ("place", "reason", "until", "is_warning")


class FreezeForm(GateForm):
    """A window of time."""

    is_open = forms.TypedChoiceField(
        label=_("Then it is"),
        choices=[("False", _("closed")), ("True", _("open, and closed at all other times"))],
        coerce=lambda value: value == "True",
    )
    weekdays = forms.MultipleChoiceField(
        label=_("Weekdays"),
        choices=[(str(number), name) for number, name in WEEKDAYS.items()],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text=_("Each week; a window that ends before it begins ends on the next day. Or choose dates:"),
    )
    time_zone = forms.ChoiceField(label=_("Time zone"))

    class Meta:
        model = Freeze
        fields = ("reason", "is_open", "weekdays", "first_day", "last_day", "begins_at", "ends_at", "time_zone")
        widgets: ClassVar = {
            "first_day": forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
            "last_day": forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
            "begins_at": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
            "ends_at": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
        }

    field_order = ("place", "reason", "is_open")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zone: Any = self.fields["time_zone"]
        zone.choices = [(name, name) for name in sorted(available_timezones())]
        initial: dict[str, Any] = {"time_zone": settings.TIME_ZONE, "begins_at": "00:00", "ends_at": "23:59"}
        if self.instance.pk:
            initial = {"weekdays": [*self.instance.weekdays]}
        self.initial.update(initial)

    def clean_weekdays(self) -> str:
        """The days as they are stored."""
        return "".join(sorted(self.cleaned_data["weekdays"]))


class RuleForm(GateForm):
    """What is required in a place."""

    action = Action.ADMINISTER

    class Meta:
        model = GateRule
        fields = (
            *("needs_approval", "approvers", "exempts_restarts"),
            *("proof_hours", "proof_is_enough"),
        )
        field_classes: ClassVar = {"approvers": PickedField}
        widgets: ClassVar = {"approvers": PickedRows}

    field_order = ("place",)


class ReasonForm(StyledForm, forms.Form):
    """Why something is done."""

    reason = forms.CharField(label=_("Reason"), max_length=LONGEST_REASON, validators=[validate_one_line])

    def clean_reason(self) -> str:
        """One line, as it is shown."""
        return _said(self.cleaned_data["reason"])
