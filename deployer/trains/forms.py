"""The forms of trains: one, its stops, and what its launch is told."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.forms import inlineformset_factory
from django.utils.translation import gettext_lazy as _

from deployer.models import LONGEST_REASON, Stop, Train
from deployer.models.train import MOST_STOPS
from pages.forms import MultilineField, StyledForm, dress
from people.access import choices
from people.recorded_forms import RecordedForm, RecordedRows
from people.rights import Person
from people.roles import Action
from projects.answer_forms import field_of_question
from projects.given import question_of
from projects.models import Project, Variable
from projects.questions import Question
from servers.models import ServerGroup


class TrainForm(StyledForm, RecordedForm[Train]):
    """How a train goes."""

    class Meta:
        model = Train
        fields = ("name", "description", "mode", "at_once", "at_failure", "pauses", "pause_for", "waits_at_gates")
        field_classes: ClassVar = {"description": MultilineField}
        widgets: ClassVar = {"description": forms.Textarea(attrs={"rows": 2})}


class StopRows(RecordedRows[Stop, Train]):
    """The stops of a train, of projects and groups that ``user`` may edit and see; one empty row is offered."""

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        used = Stop.objects.filter(train=self.instance) if self.instance.pk else Stop.objects.none()
        self._projects = choices(user, Project.objects.current(), Action.EDIT, used.values("project"))
        self._groups = ServerGroup.objects.reached_by(user) | ServerGroup.objects.filter(
            pk__in=Stop.server_groups.through.objects.filter(stop__in=used).values("servergroup")
        )
        self._groups = self._groups.distinct()
        self._next = max(used.values_list("position", flat=True), default=0) + 1
        # Asked once, and not for each row.
        self._offered = {
            "project": [("", "–"), *((row.pk, row.label) for row in self._projects)],
            "server_groups": [(row.pk, str(row)) for row in self._groups],
        }

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        form.fields["project"].queryset, form.fields["server_groups"].queryset = self._projects, self._groups
        for name, offered in self._offered.items():
            form.fields[name].choices = offered
        if form.instance.pk is None:
            form.fields["position"].initial = self._next
        for field in form.fields.values():
            dress(field)

    def clean(self) -> None:
        """A train has stops."""
        super().clean()
        kept = [
            form
            for form in self.forms
            if form not in self.deleted_forms and form.has_changed() | bool(form.instance.pk)
        ]
        if not self.errors_of_rows and not kept:
            raise forms.ValidationError(_("A train needs at least one stop."))

    @property
    def errors_of_rows(self) -> bool:
        """Whether a row is wrong for itself."""
        return any(form.errors for form in self.forms)


Stops = inlineformset_factory(
    Train,
    Stop,
    formset=StopRows,
    fields=("position", "project", "deployment_type", "branch", "release", "server_groups"),
    widgets={"server_groups": forms.SelectMultiple(attrs={"size": 3})},
    extra=1,
    max_num=MOST_STOPS,
    validate_max=True,
    can_delete_extra=False,
)


class TrainLaunchForm(StyledForm, forms.Form):
    """Why a train is launched, and the answers to what the projects of its ``stops`` ask."""

    note = forms.CharField(label=_("Note"), required=False, max_length=LONGEST_REASON)

    def __init__(self, *args: Any, stops: Sequence[Stop] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._builds = {stop.project_id for stop in stops if stop.builds}
        self._asked: dict[Project, dict[str, Question]] = {}
        projects = {stop.project_id: stop.project for stop in stops}
        for row in Variable.objects.filter(project__in=projects, is_prompt=True):
            question = question_of(row)
            name = f"answer-{row.project_id}-{question.name}"
            self._asked.setdefault(projects[row.project_id], {})[name] = question
            self.fields[name] = field_of_question(question)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for project, questions in self._asked.items():
            for name, question in questions.items():
                why = question.problem(cleaned.get(name, ""), builds=project.pk in self._builds)
                if why and name not in self.errors:
                    self.add_error(name, why)
        return cleaned

    @property
    def answers(self) -> dict[int, dict[str, str]]:
        """The answers that were given, by name, for the number of each project."""
        found = {
            project.pk: {question.name: self.cleaned_data.get(name, "") for name, question in questions.items()}
            for project, questions in self._asked.items()
        }
        return {pk: {name: answer for name, answer in given.items() if answer} for pk, given in found.items()}

    @property
    def asked_for(self) -> list[tuple[Project, list[forms.BoundField]]]:
        """The boxes of the answers, by project."""
        return [(project, [self[name] for name in questions]) for project, questions in self._asked.items()]
