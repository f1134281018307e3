"""The forms of commands on servers: one that is saved, its parameters, and a run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.forms import inlineformset_factory
from django.utils.translation import gettext_lazy as _

from deployer.commanding.asked import LONGEST_TIMEOUT, USUAL_TIMEOUT, CommandRequest
from deployer.models import CommandParameter, Deployment, SavedCommand
from pages.forms import MultilineField, PickedField, PickedRows, PickingForm, StyledForm, dress
from people.models import User
from people.recorded_forms import RecordedForm, RecordedRows
from people.rights import Person, may, reach
from people.roles import EVERYWHERE, Action, Place
from servers.forms import ServersChoice
from servers.models import Environment, Server, ServerGroup

_CODE = {"rows": 8, "spellcheck": "false"}


class SavedCommandForm(StyledForm, RecordedForm[SavedCommand]):
    """A saved command as ``user``, who may run any command where it is for, may have it."""

    class Meta:
        model = SavedCommand
        fields = (
            *("name", "description", "environment", "script", "run_as", "timeout"),
            *("one_by_one", "not_while_deploying", "for_operators"),
        )
        field_classes: ClassVar = {"script": MultilineField, "description": MultilineField}
        widgets: ClassVar = {
            "script": forms.Textarea(attrs=_CODE | {"class": "form-control mono"}),
            "description": forms.Textarea(attrs={"rows": 2}),
        }

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        places: Any = self.fields["environment"]
        offered = [("", _("Everywhere")), *Environment.choices]
        places.choices = [(name, label) for name, label in offered if may(user, Action.COMMAND, _place(name))]

    def clean_environment(self) -> str:
        """It has to be theirs to edit where it will be, too."""
        name: str = self.cleaned_data["environment"]
        if not may(self.user, Action.COMMAND, _place(name)):
            raise forms.ValidationError(_("You have no right to edit commands there."))
        return name


def _place(environment: str) -> Place:
    return Place(environment) if environment else EVERYWHERE


class ParameterRows(RecordedRows[CommandParameter, SavedCommand]):
    """Parameters: one empty row is offered, and each that is there has a box to remove it."""

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        for field in form.fields.values():
            dress(field, mono=True)


Parameters = inlineformset_factory(
    SavedCommand,
    CommandParameter,
    formset=ParameterRows,
    fields=("name", "label", "default", "choices", "required", "is_secret", "position"),
    field_classes={"choices": MultilineField},
    widgets={"choices": forms.Textarea(attrs={"rows": 1, "cols": 20, "spellcheck": "false"})},
    extra=1,
    can_delete_extra=False,
)


class RunForm(PickingForm, forms.Form):
    """A command as somebody wants it run: the ``saved`` one with its parameters, or a line of their own."""

    script = MultilineField(
        label=_("Command"),
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "form-control mono"}),
        required=False,
        help_text=_("bash runs it in the home of each server's login."),
    )
    servers = ServersChoice(Server.objects.none(), required=False, label=_("Servers"), widget=PickedRows)
    groups = PickedField(ServerGroup.objects.none(), required=False, label=_("Server groups"), widget=PickedRows)
    run_as = forms.CharField(label=_("Run as"), required=False, max_length=32)
    timeout = forms.IntegerField(
        label=_("Time limit (s)"), required=False, min_value=1, max_value=LONGEST_TIMEOUT, initial=USUAL_TIMEOUT
    )
    one_by_one = forms.BooleanField(
        label=_("One server after the other, until it fails"), required=False, initial=False
    )
    not_while_deploying = forms.BooleanField(label=_("Not while a deployment works there"), required=False)
    confirm = forms.BooleanField(label=_("Servers of production are meant"), required=False)

    def __init__(self, *args: Any, user: User, saved: SavedCommand | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.saved = saved
        self.user = user
        action = saved.action if saved is not None else Action.COMMAND
        reached = reach(user, action)
        groups = ServerGroup.objects.reached_by(user, action)
        servers = Server.objects.reached_by(user, action)
        if saved is not None and saved.environment:
            groups = groups.filter(environment=saved.environment)
            servers = servers.filter(groups__environment=saved.environment).distinct()
        fields: dict[str, Any] = self.fields
        fields["groups"].queryset, fields["servers"].queryset = groups, servers
        self.is_production = bool(
            reached.covers(Place(Environment.PRODUCTION))
            and (saved is None or saved.environment in ("", Environment.PRODUCTION))
        )
        if not self.is_production:
            del fields["confirm"]
        if saved is not None:
            for name in ("script", "run_as", "timeout"):
                del fields[name]
            for parameter in saved.parameters.all():
                fields[self.box_of(parameter.name)] = _box(parameter)
        self.order_fields([*self.parameter_names, "script", "groups", "servers"])

    @property
    def parameter_names(self) -> list[str]:
        """The boxes of its parameters."""
        return [name for name in self.fields if name.startswith("p_")]

    @staticmethod
    def box_of(name: str) -> str:
        """The box of a parameter."""
        return f"p_{name}"

    def boxes(self) -> list[forms.BoundField]:
        """What is filled in first: the parameters, or the line."""
        return [self[name] for name in (self.parameter_names if self.saved is not None else ["script"])]

    def others(self) -> list[forms.BoundField]:
        """How it is run."""
        names = ("run_as", "timeout", "one_by_one", "not_while_deploying", "confirm")
        return [self[name] for name in names if name in self.fields]

    def request(self) -> CommandRequest:
        """What was filled in, right or wrong by the rules of a command."""
        given: Mapping[str, Any] = self.cleaned_data
        values = {name.removeprefix("p_"): given[name] or "" for name in self.parameter_names}
        return CommandRequest(
            groups=[*given["groups"]],
            servers=[*given["servers"]],
            saved=self.saved,
            script=given.get("script") or "",
            values=values,
            run_as=given.get("run_as") or "",
            timeout=given.get("timeout") or USUAL_TIMEOUT,
            one_by_one=given["one_by_one"],
            not_while_deploying=given["not_while_deploying"],
            confirmed=bool(given.get("confirm")),
            created_by=self.user,
            trigger=Deployment.Trigger.WEB,
        )


def _box(parameter: CommandParameter) -> forms.Field:
    """The box for the value of a parameter; a secret is never drawn with one."""
    label, required = str(parameter), parameter.required
    field: forms.Field
    if parameter.choice_list:
        offered = [(value, value) for value in parameter.choice_list]
        empty = [] if parameter.default else [("", "–")]
        field = forms.ChoiceField(label=label, required=required, choices=[*empty, *offered], initial=parameter.default)
    elif parameter.is_secret:
        field = forms.CharField(label=label, required=required, widget=forms.PasswordInput, strip=False)
    else:
        field = MultilineField(
            label=label,
            required=required,
            initial=parameter.default,
            strip=False,
            widget=forms.Textarea(attrs={"rows": 1, "spellcheck": "false"}),
        )
    if parameter.label:
        field.help_text = f"${parameter.name}"
    dress(field, mono=True)
    return field
