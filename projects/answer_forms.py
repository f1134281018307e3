"""The box in which a question of a project is answered."""

from django import forms
from django.utils.translation import gettext as _

from pages.forms import WriteOnlyInput, dress
from projects.questions import Question


def field_of_question(question: Question) -> forms.Field:
    """The box for an answer. That of a secret never shows it again, nor its choices what a secret may be."""
    label = question.name
    help_text = _("Empty: the default.") if question.default else ""
    if question.is_secret:
        widget: forms.Widget = WriteOnlyInput(attrs={"autocomplete": "new-password"})
    elif question.choices:
        default = [("", question.default or "–")] if question.default not in question.choices else []
        choices = [*default, *((choice, choice) for choice in question.choices)]
        found: forms.Field = forms.ChoiceField(
            choices=choices, required=False, label=label, initial=question.default or None
        )
        dress(found, mono=True)
        return found
    else:
        widget = forms.TextInput(attrs={"placeholder": question.default[:200], "spellcheck": "false"})
    field = forms.CharField(required=False, strip=False, label=label, help_text=help_text, widget=widget)
    dress(field, mono=True)
    return field
