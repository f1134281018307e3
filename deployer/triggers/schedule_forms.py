"""The form of a schedule: when, what, and the answers that its launches give."""

from datetime import datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.models import Schedule
from deployer.triggers.schedules import freeze
from pages.forms import PickedField, PickedRows, PickingForm
from people.models import User
from people.recorded_forms import RecordedForm
from people.roles import Action
from projects.answer_forms import field_of_question
from projects.cron import moment_of
from projects.given import questions_of
from servers.errors import ShellError
from servers.fields import DecryptionError, is_unreadable
from servers.models import ServerGroup


class ScheduleForm(PickingForm, RecordedForm[Schedule]):
    """A schedule of a project; its ``user`` owns it from then on. ``at`` is by the clock of the time zone beside it.

    A secret answer goes in and never comes out: left empty, it stays.
    """

    ANSWER: ClassVar = "answer-"
    writes_too = (
        *("answers", "owner", "next_at", "paused_reason", "is_active"),
        *("commit", "commit_message", "commit_of"),
    )

    at = forms.CharField(
        label=gettext_lazy("Or once, at"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    time_zone = forms.ChoiceField(label=gettext_lazy("Time zone"))

    class Meta:
        model = Schedule
        fields = (
            *("name", "deployment_type", "branch", "server_groups"),
            *("cron", "time_zone", "at", "missed", "busy"),
        )
        field_classes: ClassVar = {"server_groups": PickedField}
        widgets: ClassVar = {"server_groups": PickedRows}

    field_order = ("name", "deployment_type", "branch", "server_groups", "cron", "time_zone", "at", "missed", "busy")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        it, fields = self.instance, self.fields
        self.user = user
        self.questions = questions_of(it.project)
        zone: Any = fields["time_zone"]
        zone.choices = [(name, name) for name in sorted(available_timezones())]
        groups: Any = fields["server_groups"]
        offered = ServerGroup.objects.reached_by(user, Action.OPERATE).filter(environment=it.project.environment)
        groups.queryset = offered
        groups.required = False
        groups.help_text = _("None: the project's own groups, as they are by then.")
        if it.pk is None:
            self.initial["time_zone"] = timezone.get_current_timezone_name()
        elif it.at is not None:
            self.initial["at"] = it.at.astimezone(it.zone).strftime("%Y-%m-%dT%H:%M")
        stored = {} if is_unreadable(it, "answers") else it.answers or {}
        for question in self.questions:
            field = field_of_question(question)
            if question.is_secret and stored.get(question.name):
                field.help_text = _("Stored. Empty: it stays.")
            elif not question.is_secret:
                field.initial = stored.get(question.name) or field.initial
            fields[f"{self.ANSWER}{question.name}"] = field

    def clean_at(self) -> datetime | None:
        """The moment that a clock in the chosen zone shows first."""
        text, zone = self.cleaned_data["at"], self.cleaned_data.get("time_zone")
        if not text or not zone:
            return None
        moment = moment_of(text, ZoneInfo(zone))
        if moment is None:
            raise forms.ValidationError(_("Give a day and a time, like 2026-12-31 02:30."))
        return moment.replace(second=0, microsecond=0)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        it = self.instance
        stored = {} if is_unreadable(it, "answers") else dict(it.answers or {})
        answers = {question.name: self._answer(question, stored) for question in self.questions}
        it.answers = {name: answer for name, answer in answers.items() if answer} or None
        it.deployment_type = cleaned.get("deployment_type") or it.deployment_type
        for name in it.lacking_answers(self.questions):
            self.add_error(f"{self.ANSWER}{name}", _("It has no default: give an answer."))
        at = cleaned.get("at")
        if at is not None and at <= timezone.now() and "at" in self.changed_data:
            self.add_error("at", _("That moment has passed."))
        return cleaned

    def _freeze(self) -> None:
        try:
            freeze(self.instance)
        except (ShellError, DecryptionError) as error:
            self.add_error("branch", str(error))

    def _answer(self, question: Any, stored: dict[str, str]) -> str:
        name = f"{self.ANSWER}{question.name}"
        given: str = self.cleaned_data.get(name, "")
        if given and (why := question.objection(given)):
            self.add_error(name, why)
        return given or (stored.get(question.name, "") if question.is_secret else "")

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # a part of Django's forms that its types lack
        it = self.instance
        it.owner = self.user
        if not self.errors:
            it.plan()
            self._freeze()
        if it.paused_reason and not self.errors:  # deployer had paused it, for want of an owner
            it.paused_reason, it.is_active = "", True

    def _get_validation_exclusions(self) -> Any:
        """Its project is given, so that a schedule of the same name there is seen."""
        return super()._get_validation_exclusions() - {"project"}  # type: ignore[misc]  # Django's types lack it

    @property
    def asked_for(self) -> list[forms.BoundField]:
        """The boxes of the answers."""
        return [self[f"{self.ANSWER}{question.name}"] for question in self.questions]

    @property
    def plain(self) -> list[forms.BoundField]:
        """All other boxes."""
        return [field for field in self.visible_fields() if not field.name.startswith(self.ANSWER)]
