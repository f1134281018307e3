"""Forms that record what they save."""

from typing import Any, TypeVar

from django import forms
from django.db import models
from django.forms import BaseInlineFormSet

from people.record import delete, saving

M = TypeVar("M", bound=models.Model)
Whole = TypeVar("Whole", bound=models.Model)


class RecordedForm(forms.ModelForm[M]):
    """A form of one row."""

    def save(self, commit: bool = True) -> M:
        """Save the row, with its entry in the same transaction."""
        if not commit:
            return super().save(commit)
        with saving(self.instance):
            return super().save(commit)


class RecordedRows(BaseInlineFormSet[M, Whole, forms.ModelForm[M]]):
    """Rows of another row: each that is new, changed or deleted has an entry of its own."""

    def save_new(self, form: Any, commit: bool = True) -> M:
        if not commit:
            return super().save_new(form, commit)
        with saving(form.instance):
            return super().save_new(form, commit)

    def save_existing(self, form: Any, obj: M, commit: bool = True) -> M:
        if not commit:
            return super().save_existing(form, obj, commit)
        with saving(obj):
            return super().save_existing(form, obj, commit)

    def delete_existing(self, obj: M, commit: bool = True) -> None:
        if commit:
            delete(obj)
