"""Forms of variables, of sets of them, and of what is pasted; the value of a secret goes in and never comes out."""

from collections.abc import Collection
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.forms import inlineformset_factory
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pages.forms import (
    LISTED,
    MultilineField,
    NamedField,
    NameInput,
    SecretsForm,
    StyledForm,
    WriteOnlyTextarea,
    dress,
)
from people.access import choices
from people.recorded_forms import ComparedForm, RecordedForm, RecordedRows
from people.rights import Person, may
from people.roles import EVERYWHERE, Action, Place
from projects import dotenv
from projects.forms import RowsFormSet, on_page
from projects.given import counting_groups, problems_of, projects_that_cannot_have
from projects.models import AttachedSet, Project, SetVariable, Variable, VariableSet
from projects.outside import known_sources
from projects.pasting import Wanted
from servers.models import Environment, Server, ServerGroup

_SIZE = {"rows": 1, "cols": 40}


class PlaceChoice(NamedField[Any]):
    """A group or a server that a variable is for; its ``rows`` are read once for all variables of a page."""

    rows: Collection[tuple[int, str]] = ()

    def offer(self, queryset: "models.QuerySet[Any]", rows: Collection[tuple[int, str]]) -> None:
        """Offer ``rows`` of ``queryset``; where there are many, become a box for a name."""
        self.queryset, self.rows = queryset, rows
        if len(rows) > LISTED:
            self.widget = NameInput(self.names_at, {"placeholder": self.empty_label or ""})
            self.widget.is_required = False
            dress(self, mono=True)
        else:
            self.choices = [("", self.empty_label), *rows]

    def prepare_value(self, value: Any) -> Any:
        if self.is_typed:
            return dict(self.rows).get(value, "" if value is None else value)
        return super().prepare_value(value)


class PlaceOfGroup(PlaceChoice):
    """A group."""

    names_at = "group_names"


class PlaceOfServer(PlaceChoice):
    """A server."""

    names_at = "server_names"


class VariableForm(SecretsForm[Variable]):
    """A variable. Only a secret one is write-only; unticking it needs the value again, so nothing leaks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hidden = self.instance.is_secret or self._is_sent_as_secret() or self.is_unreadable("value")
        if "value" in self.fields and hidden:
            self.make_write_only("value", WriteOnlyTextarea(attrs=_SIZE))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if self.is_unreadable("value"):
            self.keep_if_empty("value")
        elif self.instance.is_secret and not cleaned.get("value"):
            if not cleaned.get("is_secret") and self.instance.value:
                raise ValidationError(
                    {"value": _("Enter the value again: unticking the box does not reveal a stored secret.")}
                )
            self.keep_if_empty("value")
        return cleaned

    def _is_sent_as_secret(self) -> bool:
        return self.is_bound and bool(self.data.get(self.add_prefix("is_secret")))


def _on_page(column: Any, **options: Any) -> forms.Field | None:
    kinds: dict[str, Any] = {"server_group": PlaceOfGroup, "server": PlaceOfServer}
    if column.name in kinds:
        empty = gettext_lazy("any group") if column.name == "server_group" else gettext_lazy("any server")
        return kinds[column.name](  # type: ignore[no-any-return]  # one of the two
            queryset=column.related_model.objects.none(),
            required=False,
            label=column.verbose_name,
            help_text=column.help_text,
            empty_label=empty,
        )
    return on_page(column, **options)


class CheckedVariables(RecordedRows[Variable, Project]):
    """The variables of a project: each once, in places that count, and no two groups of a server at odds."""

    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        kept = [form for form in self.forms if not self._is_out(form)]
        self._refuse_doubles(kept)
        if self.instance.pk is None or any(form.errors for form in kept):
            return
        by_row = {id(form.instance): form for form in kept}
        for row, why in problems_of(self.instance, [form.instance for form in kept]):
            form = by_row.get(id(row))
            if form is None or row is None:
                raise ValidationError(why)
            form.add_error("server_group" if row.server_group_id else "server", why)

    def _is_out(self, form: Any) -> bool:
        return self._is_deleted(form) or (form.instance.pk is None and not form.has_changed())

    def _refuse_doubles(self, kept: Collection[Any]) -> None:
        """Of two that are sent together: the database is only asked about those that are there already."""
        seen: set[tuple[Any, ...]] = set()
        doubles = False
        for form in kept:
            row = form.instance
            keys: list[tuple[Any, ...]] = [(row.name, row.scope, row.server_group_id, row.server_id)]
            keys += [(row.name,)] if row.is_prompt else []
            if seen.intersection(keys):
                form.add_error("name", _("There is another variable of this name and scope."))
                doubles = True
            seen.update(keys)
        if doubles:
            raise ValidationError(self.get_unique_error_message(("name", "scope")))


class VariableRows(RowsFormSet[Variable, Project], CheckedVariables):
    """The same on a page, with the groups and servers to choose from."""

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        kwargs.setdefault("queryset", Variable.objects.select_related("server_group", "server"))
        self._user = user
        self._offered: dict[str, tuple[Any, list[tuple[int, str]]]] = {}
        super().__init__(*args, **kwargs)

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        for name in ("server_group", "server"):
            form.fields[name].offer(*self._offer(name))
        leave_out_sources(form, self.instance.environment)

    def _offer(self, name: str) -> tuple[Any, list[tuple[int, str]]]:
        if name not in self._offered:
            self._offered[name] = places_to_offer(self._user, self.instance, name)
        return self._offered[name]


def places_to_offer(user: Person, project: Project, name: str) -> tuple[Any, list[tuple[int, str]]]:
    """The groups that count (``server_group``) or the servers of the environment (``server``) to choose from.

    They are those in sight, and those that variables of the project have already; the rows, and some by their names:
    more than are listed where they are many, and then each that is chosen.
    """
    model: Any = ServerGroup if name == "server_group" else Server
    near: Any = model.objects.reached_by(user)
    if name == "server_group":
        near = near.filter(pk__in=counting_groups(project).order_by().values("pk"))
    else:
        near = near.filter(groups__environment=project.environment)
    present = Variable.objects.filter(project=project).exclude(**{name: None}).order_by().values(name)
    rows = model.objects.filter(models.Q(pk__in=near.order_by().values("pk")) | models.Q(pk__in=present))
    named = [*rows.order_by("name").values_list("pk", "name")[: LISTED + 1]]
    if len(named) > LISTED:
        named += rows.filter(pk__in=present).values_list("pk", "name")
    return rows, named


class SetRows(RowsFormSet[SetVariable, VariableSet]):
    """The variables of a set on a page."""

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        leave_out_sources(form, self.instance.environment)


def leave_out_sources(form: Any, environment: str) -> None:
    """Ask for no source where this installation has none, unless the variable has one all the same."""
    if not (form.instance.value_from or known_sources(environment)):
        del form.fields["value_from"]


Variables = inlineformset_factory(
    Project,
    Variable,
    form=VariableForm,
    formset=VariableRows,
    fields=("name", "value", "is_secret", "scope", "server_group", "server", "is_prompt", "choices", "value_from"),
    formfield_callback=_on_page,
    extra=1,
    can_delete_extra=False,
)
SetVariables = inlineformset_factory(
    VariableSet,
    SetVariable,
    form=VariableForm,
    formset=SetRows,
    fields=("name", "value", "is_secret", "scope", "value_from"),
    formfield_callback=on_page,
    extra=1,
    can_delete_extra=False,
)


class PasteForm(StyledForm, forms.Form):
    """A pasted file of variables, and for what its values are. What was typed is never shown again."""

    text = MultilineField(
        label=gettext_lazy("Variables"),
        strip=False,
        max_length=dotenv.LONGEST,
        widget=WriteOnlyTextarea(attrs={"rows": 12, "spellcheck": "false", "class": "form-control mono"}),
        help_text=gettext_lazy("One a line, like NAME=value. Nothing is put in for $NAME."),
    )
    scope = forms.ChoiceField(
        label=gettext_lazy("Scope"), choices=Variable.Scope.choices, initial=Variable.Scope.BOTH.value
    )
    secrets = forms.ChoiceField(
        label=gettext_lazy("Secrets"),
        choices=[
            ("guess", gettext_lazy("those that look like one by their names")),
            ("all", gettext_lazy("all of them")),
            ("none", gettext_lazy("none of them")),
        ],
        help_text=gettext_lazy("What is a secret stays one."),
    )
    server_group = PlaceOfGroup(
        queryset=ServerGroup.objects.none(),
        required=False,
        label=gettext_lazy("Server group"),
        empty_label=gettext_lazy("any group"),
    )
    server = PlaceOfServer(
        queryset=Server.objects.none(),
        required=False,
        label=gettext_lazy("Server"),
        empty_label=gettext_lazy("any server"),
    )

    def __init__(self, *args: Any, user: Person, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("server_group", "server"):
            field: Any = self.fields[name]
            field.offer(*places_to_offer(user, project, name))

    @property
    def wanted(self) -> Wanted:
        """What a valid form asks for."""
        values = dict(self.cleaned_data)
        for name in ("server_group", "server"):
            values[name] = values[name].pk if values[name] else None
        return Wanted(**values)


class SetForm(ComparedForm[VariableSet]):
    """A set. It stays of the environment of the projects that it is attached to."""

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # a hook of Django's that its types lack
        if not self.errors and (strange := projects_that_cannot_have(self.instance)):
            told = _("Projects of another environment have it: %s. Detach it there first.")
            self.add_error("environment", told % ", ".join(map(str, strange)))


class VariableSetForm(StyledForm, SetForm, RecordedForm[VariableSet]):
    """The same on a page, as ``user`` may have it."""

    class Meta:
        model = VariableSet
        fields = ("name", "description", "environment")
        widgets: ClassVar = {"description": forms.Textarea(attrs={"rows": 2})}

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        places: Any = self.fields["environment"]
        everywhere = [("", _("All"))] if may(user, Action.EDIT, EVERYWHERE) else []
        own = [each for each in Environment.choices if may(user, Action.EDIT, Place(each[0]))]
        places.choices = everywhere + own

    def _post_clean(self) -> None:
        super()._post_clean()
        if not self.errors and not may(self.user, Action.EDIT, self.instance):
            self.add_error("environment", _("You have no right to edit sets there."))


class AttachedForm(StyledForm, forms.ModelForm[AttachedSet]):
    """A set that a project has. Only who may edit the set attaches it: the project's scripts see its secrets."""

    class Meta:
        model = AttachedSet
        fields = ("variable_set", "position")


class AttachedRows(RowsFormSet[AttachedSet, Project]):
    """The sets of a project, in their order."""

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        kwargs.setdefault("queryset", AttachedSet.objects.select_related("variable_set"))
        super().__init__(*args, **kwargs)
        self.user = user
        self._present = {row.variable_set_id for row in self.get_queryset()}
        fitting = models.Q(environment__in=["", self.instance.environment]) | models.Q(pk__in=self._present)
        rows = choices(user, VariableSet.objects, Action.EDIT, self._present).filter(fitting)
        self._offered = rows, [*rows.values_list("pk", "name")]

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        rows, named = self._offered
        field = form.fields["variable_set"]
        field.queryset = rows
        field.choices = [("", "–"), *named]

    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        for form in self.forms:
            chosen = form.cleaned_data.get("variable_set")
            if chosen is None or self._is_deleted(form) or chosen.pk in self._present:
                continue
            if not may(self.user, Action.EDIT, chosen):
                form.add_error("variable_set", _("Only somebody who may edit the set attaches it."))
            elif not chosen.is_for(self.instance.environment):
                form.add_error("variable_set", _("It is for projects of another environment."))


AttachedSets = inlineformset_factory(
    Project,
    AttachedSet,
    form=AttachedForm,
    formset=AttachedRows,
    fields=("variable_set", "position"),
    formfield_callback=on_page,
    extra=1,
    can_delete_extra=False,
)
