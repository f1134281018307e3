"""Forms of templates: the same boxes as a project has."""

from collections.abc import Iterator
from typing import Any, ClassVar

from django import forms
from django.forms import inlineformset_factory

from pages.forms import MultilineField
from people.recorded_forms import RecordedForm
from projects.forms import CHECK_FIELDS, SECTIONS, STEP_FIELDS, RowsFormSet, StepForm, on_page
from projects.models import TEMPLATED, Template, TemplateCheck, TemplateFile, TemplateStep, TemplateVariable


class TemplateForm(RecordedForm[Template]):
    """A template as somebody edits it on a page."""

    class Meta:
        model = Template
        fields: tuple[str, ...] = ("name", "description", *TEMPLATED)
        formfield_callback = on_page

    def sections(self) -> Iterator[tuple[str, list[forms.BoundField]]]:
        """Each heading with its fields, in the order of a project's page."""
        for title, names in SECTIONS:
            if fields := [self[name] for name in names if name in self.fields]:
                yield str(title), fields


class TemplateFileForm(forms.ModelForm[TemplateFile]):
    """A config file; an empty position is the first."""

    class Meta:
        field_classes: ClassVar = {"content": MultilineField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        content: Any = self.fields["content"]
        content.strip = False
        self.fields["position"].required = False

    def clean_position(self) -> int:
        """Nothing is the first place."""
        return self.cleaned_data["position"] or 0


_OPTIONS: dict[str, Any] = {
    "formset": RowsFormSet,
    "formfield_callback": on_page,
    "extra": 1,
    "can_delete_extra": False,
}
TemplateSteps = inlineformset_factory(Template, TemplateStep, form=StepForm, fields=STEP_FIELDS, **_OPTIONS)
TemplateChecks = inlineformset_factory(Template, TemplateCheck, fields=CHECK_FIELDS, **_OPTIONS)
TemplateVariables = inlineformset_factory(Template, TemplateVariable, fields=("name", "value", "scope"), **_OPTIONS)
TemplateFiles = inlineformset_factory(
    Template,
    TemplateFile,
    form=TemplateFileForm,
    fields=("path", "content", "is_template", "check_command", "mode", "owner", "position"),
    **_OPTIONS,
)
