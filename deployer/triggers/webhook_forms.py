"""The form of a webhook, with an answer to each question of its project."""

from typing import Any, ClassVar

from django import forms
from django.utils.translation import gettext_lazy as _

from deployer.models import Deployment, Webhook
from pages.forms import PickedField, PickedRows, PickingForm, dress
from people.models import User
from people.recorded_forms import RecordedForm
from people.rights import may
from people.roles import Action
from projects.given import questions_of
from projects.questions import AnswerRefusedError, Question, answered
from projects.shown import groups_elsewhere, groups_to_launch


class LinesField(forms.CharField):
    """A list of texts, one a line."""

    widget = forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "form-control mono"})

    def __init__(self, *, encoder: Any = None, decoder: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Any:
        lines = value if isinstance(value, list) else str(value or "").splitlines()
        return [line.strip() for line in map(str, lines) if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != self.to_python(data))


class WebhookForm(PickingForm, RecordedForm[Webhook]):
    """A webhook of a project, as ``user``, who may launch what it launches, may have it. Its sender stays as it is."""

    #: What the boxes of answers begin with.
    ANSWER: ClassVar = "answer-"
    writes_too = ("answers",)
    events = forms.MultipleChoiceField(
        label=_("Launches after"), choices=Webhook.Event.choices, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = Webhook
        fields = (
            *("name", "provider", "events", "refs", "paths", "workflows"),
            *("deployment_type", "server_groups", "queue"),
        )
        field_classes: ClassVar = {
            **dict.fromkeys(("refs", "paths", "workflows"), LinesField),
            "server_groups": PickedField,
        }
        widgets: ClassVar = {
            **dict.fromkeys(("refs", "paths", "workflows"), LinesField.widget),
            "server_groups": PickedRows,
        }

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        fields: dict[str, Any] = self.fields
        project = self.instance.project
        fields["server_groups"].queryset = groups_to_launch(user, project) | groups_elsewhere(user, project)
        fields["server_groups"].help_text = _("None: where the project belongs.")
        if self.instance.pk:
            del fields["provider"]
        else:
            self.initial["events"] = [Webhook.Event.PUSH]
        self.questions = questions_of(project)
        for question in self.questions:
            fields[f"{self.ANSWER}{question.name}"] = self._box(question)

    def _box(self, question: Question) -> forms.Field:
        """The box of an answer; that to a secret question is never drawn."""
        stored = (self.instance.answers or {}).get(question.name, "")
        field: forms.Field
        if question.is_secret:
            field = forms.CharField(required=False, strip=False, widget=forms.PasswordInput)
            field.help_text = _("Set. Leave empty to keep it.") if stored else ""
        elif question.choices:
            offered = [("", "–"), *((choice, choice) for choice in question.choices)]
            field = forms.ChoiceField(required=False, choices=offered, initial=stored)
        else:
            field = forms.CharField(required=False, strip=False, initial=stored)
        field.label = question.name
        dress(field, mono=True)
        return field

    def clean(self) -> dict[str, Any]:
        super().clean()
        cleaned = self.cleaned_data
        project, groups = self.instance.project, cleaned.get("server_groups")
        if groups is not None:
            chosen = [*groups] or [*project.server_groups.all()]
            things = (project, *project.reached_by_launch(chosen))
            if not all(may(self.user, Action.OPERATE, thing) for thing in things):
                self.add_error("server_groups", _("You have no right to launch there."))
        former, given = self.instance.answers or {}, {}
        for question in self.questions:
            answer = cleaned.get(f"{self.ANSWER}{question.name}") or ""
            if question.is_secret and not answer:
                answer = former.get(question.name, "")
            if answer:
                given[question.name] = answer
        try:
            builds = cleaned.get("deployment_type") == Deployment.Type.FULL
            answered(self.questions, given, builds=builds)
        except AnswerRefusedError as error:
            box = f"{self.ANSWER}{error.name}"
            self.add_error(box if box in self.fields else None, error.message)
        self.instance.answers = given or None
        return cleaned

    def _get_validation_exclusions(self) -> Any:
        """Its project is given, so that a webhook of the same name there is seen."""
        return super()._get_validation_exclusions() - {"project"}  # type: ignore[misc]  # Django's types lack it
