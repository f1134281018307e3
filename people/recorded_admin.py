"""The admin's part of the record: what is saved or deleted there has its entry."""

from typing import Any, TypeVar

from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest

from people.record import Before, delete

M = TypeVar("M", bound=models.Model)


class RecordedAdmin(admin.ModelAdmin[M]):
    """An admin of rows whose changes are recorded. Its inlines have `RecordedRows` for that."""

    def save_model(self, request: HttpRequest, obj: M, form: Any, change: bool) -> None:
        form.before = Before(obj)
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The last step of a save, in the same transaction."""
        super().save_related(request, form, formsets, change)
        form.before.record()

    def delete_model(self, request: HttpRequest, obj: M) -> None:
        delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[M]) -> None:
        delete(*queryset)
