"""The admin by the same rights as the pages: who gets in, which rows are there, what may be chosen and saved."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import Field, Model, QuerySet
from django.http import Http404, HttpRequest
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from people.access import choices
from people.rights import Person, may, reach
from people.roles import Action

M = TypeVar("M", bound=Model)


class GuardedSite(admin.AdminSite):
    """The admin, for staff who have a role somewhere; a user flag alone opens nothing.

    It looks at no password itself: the site's pages count the tries, ask for the second factor and record it.
    """

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and bool(reach(request.user, Action.SEE))

    def login(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """On to the site's login; or into the admin, or out, for whoever is signed in already."""
        index = reverse("admin:index", current_app=self.name)
        if self.has_permission(request):
            return redirect(index)
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.GET.get(REDIRECT_FIELD_NAME) or index)

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """The site's page for that."""
        return redirect("password")

    def password_change_done(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """The same: nothing leads here."""
        return redirect("password")


class Guarded(admin.options.BaseModelAdmin[M]):
    """Rows by rights, on pages of their own or as rows of another one, whose rights then count.

    A class that comes first among the parents may still take all rights of a kind away.
    """

    #: What somebody needs to be shown a row, to change it, and to delete it.
    seen_by: ClassVar = Action.SEE
    changed_by: ClassVar = Action.EDIT
    deleted_by: ClassVar = Action.EDIT

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(reach(request.user, self.seen_by))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may(request.user, self.seen_by, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may(request.user, self.changed_by, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may(request.user, self.changed_by, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may(request.user, self.deleted_by, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        """The rows within reach; parts of another row are all within its reach."""
        rows: Any = super().get_queryset(request)
        reached: QuerySet[M] = rows.reached_by(request.user, self.seen_by) if hasattr(rows, "reached_by") else rows
        return reached


class GuardedForm(forms.ModelForm[Any]):
    """Refuses to save what ``user`` may not have as it would be then; keeps the chosen rows that are out of sight."""

    user: Person
    action: Action

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._former = {"environment": self.instance.environment} if "environment" in self.fields else {}

    def clean(self) -> dict[str, Any]:
        given = super().clean()
        cleaned: dict[str, Any] = self.cleaned_data if given is None else given
        for name, field in self.fields.items():
            rows: Any = getattr(field, "queryset", None)
            if not (isinstance(field, forms.ModelMultipleChoiceField) and name in cleaned and self.instance.pk):
                continue
            if hasattr(rows, "reached_by"):
                seen = rows.model._default_manager.reached_by(self.user).values("pk")
                hidden = getattr(self.instance, name).exclude(pk__in=seen).values_list("pk", flat=True)
                kept = {*hidden, *(row.pk for row in cleaned[name])}
                cleaned[name] = rows.model._default_manager.filter(pk__in=kept)
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # a hook of Django's that its types lack
        if may(self.user, self.action, self.instance):
            return
        if not self.errors:
            self.add_error("environment" if self._former else None, _("You have no right to put it there."))
        for name, value in self._former.items():
            setattr(self.instance, name, value)  # the page with the refusal asks about the row as it is


class GuardedAdmin(Guarded[M], admin.ModelAdmin[M]):
    """Rows by rights on pages of their own. What is out of sight is not there: 404."""

    #: What somebody needs for a row to be able to choose it in a field; for all others it is the right to edit it.
    chosen_by: ClassVar[Mapping[str, Action]] = {}

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> M | None:
        found: M | None = super().get_object(request, object_id, from_field)
        if found is None:
            raise Http404
        return found

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """A form that knows who fills it in, and offers what they may use and what is chosen already."""
        form = super().get_form(request, obj, change, **kwargs)
        own: Any = type(form.__name__, (form, GuardedForm), {"user": request.user, "action": self.changed_by})
        for name, field in own.base_fields.items():
            rows = getattr(field, "queryset", None)
            if rows is not None and hasattr(rows, "reached_by"):
                manager = rows.model._default_manager
                field.queryset = choices(
                    request.user, manager, self.chosen_by.get(name, Action.EDIT), _chosen(obj, name)
                )
        return own


class ReachedFilter(admin.RelatedFieldListFilter):
    """A filter of a list by related rows: those within sight."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        rows = field.remote_field.model._default_manager.reached_by(request.user)
        return [(row.pk, str(row)) for row in rows]


def _may(user: Any, action: Action, row: Any) -> bool:
    """Whether somebody may do this with a row; without one: whether there is a place where they may."""
    return bool(reach(user, action)) if row is None else may(user, action, row)


def _chosen(row: Any, name: str) -> Any:
    """The ids that a field of a row has now."""
    if row is None or row.pk is None:
        return []
    field: Field[Any, Any] = row._meta.get_field(name)
    if field.many_to_many:
        return getattr(row, name).values("pk")
    return [getattr(row, field.attname)]
