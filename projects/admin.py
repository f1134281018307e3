"""The admin of projects, with their health checks and variables."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.translation import gettext_lazy as _

from pages.forms import MultilineField
from people.recorded_admin import RecordedAdmin
from people.recorded_forms import RecordedRows
from projects.forms import SECTIONS, BoundProjectForm, VariableForm
from projects.models import HealthCheck, Project, Variable

_SCRIPT = forms.Textarea(attrs={"rows": 5, "class": "vLargeTextField", "spellcheck": "false"})


class HealthCheckInline(admin.TabularInline[HealthCheck, Project]):
    """The health checks that a server must pass after a restart."""

    model = HealthCheck
    formset = RecordedRows[HealthCheck, Project]
    extra = 0


class VariableInline(admin.TabularInline[Variable, Project]):
    """Variables; users without permission to change them see the values of secrets as dots."""

    model = Variable
    form = VariableForm
    formset = RecordedRows[Variable, Project]
    extra = 0
    readonly_fields = ("shown_value",)
    formfield_overrides: ClassVar = {
        models.TextField: {
            "form_class": MultilineField,
            "strip": False,
            "widget": forms.Textarea(attrs={"rows": 1, "cols": 40}),
        }
    }

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        value = "value" if obj is None or self._may_edit(request, obj) else "shown_value"
        return ("name", value, "is_secret", "scope")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_add_permission(request, obj) and (obj is None or self._may_edit(request, obj))

    def _may_edit(self, request: HttpRequest, project: Project) -> bool:
        """As in the admin: without permission to change the project, its variables cannot be changed either."""
        parent = self.admin_site.get_model_admin(Project)
        return self.has_change_permission(request, project) and parent.has_change_permission(request, project)

    @admin.display(description=_("value"))
    def shown_value(self, variable: Variable) -> str:
        return str(variable.shown_value())


@admin.register(Project)
class ProjectAdmin(RecordedAdmin[Project]):
    """Projects; the button "Deploy" leads to the launch form."""

    form = BoundProjectForm
    list_display = ("name", "environment", "project_type", "git_url", "default_branch", "deploy_button")
    list_filter = ("environment", "project_type")
    search_fields = ("name", "description", "git_url", "deploy_path")
    autocomplete_fields = ("git_credential",)
    inlines = (HealthCheckInline, VariableInline)
    formfield_overrides: ClassVar = {models.TextField: {"form_class": MultilineField, "widget": _SCRIPT}}
    fieldsets = tuple((title, {"fields": names}) for title, names in SECTIONS)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """A form that knows who fills it in."""
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"user": request.user})

    def save_model(self, request: HttpRequest, obj: Project, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        form.bind()

    @admin.display(description=_("deploy"))
    def deploy_button(self, project: Project) -> str:
        return render_to_string("admin/projects/project/_deploy_button.html", {"project": project})
