"""The admin of projects, with their health checks and variables."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.translation import gettext_lazy as _

from pages.forms import MultilineField
from people.guarded_admin import Guarded, GuardedAdmin
from people.recorded_admin import RecordedAdmin
from people.recorded_forms import RecordedRows
from people.rights import may
from people.roles import Action
from projects.forms import SECTIONS, BoundProjectForm, VariableForm
from projects.models import HealthCheck, Project, Variable

_SCRIPT = forms.Textarea(attrs={"rows": 5, "class": "vLargeTextField", "spellcheck": "false"})


class HealthCheckInline(Guarded[HealthCheck], admin.TabularInline[HealthCheck, Project]):
    """The health checks that a server must pass after a restart."""

    model = HealthCheck
    formset = RecordedRows[HealthCheck, Project]
    extra = 0


class VariableInline(Guarded[Variable], admin.TabularInline[Variable, Project]):
    """Variables; who may not edit the project sees the values of secrets as dots."""

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
        value = "value" if obj is None or self.has_change_permission(request, obj) else "shown_value"
        return ("name", value, "is_secret", "scope")

    @admin.display(description=_("value"))
    def shown_value(self, variable: Variable) -> str:
        return str(variable.shown_value())


@admin.register(Project)
class ProjectAdmin(GuardedAdmin[Project], RecordedAdmin[Project]):
    """Projects; the button "Deploy" leads to the launch form."""

    deleted_by = Action.ADMINISTER

    form = BoundProjectForm
    list_display = ("name", "environment", "project_type", "git_url", "default_branch", "deploy_button")
    list_filter = ("environment", "project_type")
    search_fields = ("name", "description", "git_url", "deploy_path")
    autocomplete_fields = ("git_credential",)
    filter_horizontal = ("server_groups",)
    inlines = (HealthCheckInline, VariableInline)
    formfield_overrides: ClassVar = {models.TextField: {"form_class": MultilineField, "widget": _SCRIPT}}
    fieldsets = tuple((title, {"fields": names}) for title, names in SECTIONS)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without the git credential for those who only look, and may not edit that."""
        shown = super().get_fieldsets(request, obj)
        if obj is None or obj.git_credential is None or self.has_change_permission(request, obj):
            return shown
        if may(request.user, Action.EDIT, obj.git_credential):
            return shown
        return [
            (title, {"fields": [name for name in options["fields"] if name != "git_credential"]})
            for title, options in shown
        ]

    def save_model(self, request: HttpRequest, obj: Project, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        form.bind()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        operable = Project.objects.reached_by(request.user, Action.OPERATE).filter(pk=OuterRef("pk"))
        return super().get_queryset(request).annotate(is_operable=Exists(operable))

    @admin.display(description=_("deploy"))
    def deploy_button(self, project: Any) -> str:
        return (
            ""
            if not project.is_operable
            else render_to_string("admin/projects/project/_deploy_button.html", {"project": project})
        )
