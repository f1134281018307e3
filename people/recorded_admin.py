"""The admin's part of the record: what is saved or deleted there has its entry, and takes back nobody's changes."""

from typing import Any, TypeVar

from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest

from people.record import Before, delete
from people.recorded_forms import ComparedForm

M = TypeVar("M", bound=models.Model)


class RecordedAdmin(admin.ModelAdmin[M]):
    """An admin of rows whose changes are recorded. Its inlines have `RecordedRows` for that."""

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """A form that is compared with the row; the admin saves it in one transaction, and shows why it did not."""
        form = super().get_form(request, obj, change=change, **kwargs)
        own: Any = form if obj is None else type(form.__name__, (form, ComparedForm), {})
        return own

    def save_model(self, request: HttpRequest, obj: M, form: Any, change: bool) -> None:
        form.before = Before(obj)
        if change:
            obj.save(update_fields=form.columns())
        else:
            super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The last step of a save, in the same transaction."""
        super().save_related(request, form, formsets, change)
        form.before.record()

    def delete_model(self, request: HttpRequest, obj: M) -> None:
        delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[M]) -> None:
        delete(*queryset)
