"""The admin of projects, with their services, health checks, variables and steps."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db import models
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.utils.translation import gettext_lazy as _

from pages.forms import MultilineField
from people.guarded_admin import Guarded, GuardedAdmin
from people.recorded_admin import RecordedAdmin
from people.recorded_forms import RecordedRows
from people.rights import may
from people.roles import Action
from projects.forms import SECTIONS, STEP_FIELDS, BoundProjectForm, StepForm, own_rows
from projects.models import (
    ConfigFile,
    HealthCheck,
    Project,
    Service,
    SetVariable,
    Step,
    Template,
    TemplateStep,
    TemplateVariable,
    Variable,
    VariableSet,
)
from projects.templates import follow
from projects.variable_forms import CheckedVariables, SetForm, VariableForm

_SCRIPT = forms.Textarea(attrs={"rows": 5, "class": "vLargeTextField", "spellcheck": "false"})


class OwnRows(admin.options.InlineModelAdmin[Any, Project]):
    """Parts of a project that do not come from its template: those are the template's to change."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = own_rows(super().get_queryset(request))
        return rows


class HealthCheckInline(OwnRows, Guarded[HealthCheck], admin.TabularInline[HealthCheck, Project]):
    """The health checks that a server must pass after a restart."""

    model = HealthCheck
    formset = RecordedRows[HealthCheck, Project]
    extra = 0


class ServiceInline(Guarded[Service], admin.TabularInline[Service, Project]):
    """The services that are proved besides the main one."""

    model = Service
    formset = RecordedRows[Service, Project]
    extra = 0


class VariableInline(OwnRows, Guarded[Variable], admin.TabularInline[Variable, Project]):
    """Variables; who may not edit the project sees the values of secrets as dots."""

    model = Variable
    form = VariableForm
    formset = CheckedVariables
    autocomplete_fields = ("server_group", "server")
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
        return ("name", value, "is_secret", "scope", "server_group", "server", "is_prompt", "choices", "value_from")

    @admin.display(description=_("value"))
    def shown_value(self, variable: Variable) -> str:
        return str(variable.shown_value())


class StepInline(OwnRows, Guarded[Step], admin.StackedInline[Step, Project]):
    """The steps around the switch."""

    model = Step
    form = StepForm
    formset = RecordedRows[Step, Project]
    fields = STEP_FIELDS
    extra = 0
    formfield_overrides: ClassVar = {models.TextField: {"form_class": MultilineField, "widget": _SCRIPT}}


class SetVariableInline(Guarded[SetVariable], admin.TabularInline[SetVariable, VariableSet]):
    """The variables of a set; the values of secrets in the same way."""

    model = SetVariable
    form = VariableForm  # type: ignore[assignment]  # it is of the variables of both
    formset = RecordedRows[SetVariable, VariableSet]
    extra = 0
    readonly_fields = ("shown_value",)
    formfield_overrides = VariableInline.formfield_overrides

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        value = "value" if obj is None or self.has_change_permission(request, obj) else "shown_value"
        return ("name", value, "is_secret", "scope", "value_from")

    @admin.display(description=_("value"))
    def shown_value(self, variable: SetVariable) -> str:
        return str(variable.shown_value())


@admin.register(VariableSet)
class VariableSetAdmin(GuardedAdmin[VariableSet], RecordedAdmin[VariableSet]):
    """Variables that several projects use; a project's own page attaches them."""

    form = SetForm
    list_display = ("name", "environment", "description")
    list_filter = ("environment",)
    search_fields = ("name", "description")
    inlines = (SetVariableInline,)


class ConfigFileInline(Guarded[ConfigFile], admin.TabularInline[ConfigFile, Project]):
    """The config files, to look at: they have pages of their own, with versions and differences."""

    model = ConfigFile
    fields = ("path", "server_group", "server", "mode", "owner", "is_template", "is_secret")
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class LookedAt(admin.options.BaseModelAdmin[Any]):
    """To look at: templates have pages of their own, which bring them to their projects."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TemplateStepInline(LookedAt, Guarded[TemplateStep], admin.TabularInline[TemplateStep, Template]):
    """The steps of a template."""

    model = TemplateStep
    fields = ("name", "moment", "kind", "position")
    extra = 0


class TemplateVariableInline(LookedAt, Guarded[TemplateVariable], admin.TabularInline[TemplateVariable, Template]):
    """The variables of a template."""

    model = TemplateVariable
    fields = ("name", "value", "scope")
    extra = 0


@admin.register(Template)
class TemplateAdmin(LookedAt, GuardedAdmin[Template], RecordedAdmin[Template]):
    """Templates of projects."""

    list_display = ("name", "description")
    search_fields = ("name", "description")
    inlines = (TemplateStepInline, TemplateVariableInline)


class ArchivedFilter(admin.SimpleListFilter):
    """Shows the projects in use; those that are archived only where they are asked for."""

    title = _("archived")
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Archived"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.archived() if self.value() == "yes" else queryset.current()

    def choices(self, changelist: Any) -> Any:
        all_of_them, *others = super().choices(changelist)
        return [{**all_of_them, "display": _("In use")}, *others]


@admin.register(Project)
class ProjectAdmin(GuardedAdmin[Project], RecordedAdmin[Project]):
    """Projects; the button "Deploy" leads to the launch form."""

    deleted_by = Action.ADMINISTER

    form = BoundProjectForm
    list_display = ("name", "environment", "project_type", "git_url", "default_branch", "deploy_button")
    list_filter = (ArchivedFilter, "environment", "project_type")
    search_fields = ("name", "description", "git_url", "deploy_path")
    autocomplete_fields = ("git_credential", "template")
    filter_horizontal = ("server_groups",)
    inlines = (ServiceInline, HealthCheckInline, VariableInline, StepInline, ConfigFileInline)
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

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes what is archived, before it is restored."""
        return super().has_change_permission(request, obj) and not (obj is not None and obj.is_archived)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """A history goes by the site's own page, which asks for the name and deletes what is stored as well."""
        project = self.get_object(request, unquote(object_id))
        if project is not None and project.has_history and self.has_delete_permission(request, project):
            return redirect("project_delete", project.pk)
        return super().delete_view(request, object_id, extra_context)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Many at once only without a history."""
        found, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return found, counts, lacking, [*protected, *(project for project in objs if project.has_history)]

    def save_model(self, request: HttpRequest, obj: Project, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if "template" in form.changed_data:
            follow(obj)
        form.bind()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        operable = Project.objects.reached_by(request.user, Action.OPERATE).filter(pk=OuterRef("pk"))
        return super().get_queryset(request).annotate(is_operable=Exists(operable))

    @admin.display(description=_("deploy"))
    def deploy_button(self, project: Any) -> str:
        return (
            ""
            if not project.is_operable or project.is_archived
            else render_to_string("admin/projects/project/_deploy_button.html", {"project": project})
        )
