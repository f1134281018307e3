"""The admin of deployments, releases, commands' runs, trains, triggers and notices, to look at; and of saved commands.

Gates and decisions have no pages here: they are changed where their rules are (deployer.gates), and seen on their page.
"""

from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet, TextField
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from deployer.models import (
    Channel,
    CommandParameter,
    CommandRun,
    CommandTarget,
    Delivery,
    Deployment,
    LogLine,
    Notice,
    Release,
    SavedCommand,
    Schedule,
    ScheduleRun,
    Stop,
    Target,
    Train,
    TrainRun,
    TrainStop,
    TriggerHold,
    Webhook,
)
from pages.forms import MultilineField
from people.guarded_admin import Guarded, GuardedAdmin, ReachedFilter
from people.recorded_admin import RecordedAdmin
from people.recorded_forms import RecordedRows
from people.rights import reach
from people.roles import Action

admin.site.site_header = admin.site.site_title = "deployer"
admin.site.site_url = None  # the way back is in its head
admin.site.index_title = gettext_lazy("Settings and records")


M = TypeVar("M", bound=Model)


class ViewOnly(admin.options.BaseModelAdmin[M]):
    """Rows that only deployments write: to look at, never to add, change or delete."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TargetInline(ViewOnly[Target], Guarded[Target], admin.TabularInline[Target, Deployment]):
    """The servers of a deployment, on its page."""

    model = Target
    fields = ("server_name", "host", "batch", "status", "exit_code", "error", "release_before", "release_after")
    show_change_link = True


@admin.register(Deployment)
class DeploymentAdmin(ViewOnly[Deployment], GuardedAdmin[Deployment]):
    """Launched deployments. The frozen plan holds the project's secrets and is never shown."""

    list_display = ("id", "project", "deployment_type", "status", "branch", "environment", "created_by", "created_at")
    list_display_links = ("id", "project")
    list_filter = ("status", "deployment_type", "environment", "trigger", ("project", ReachedFilter))
    list_select_related = ("project", "created_by")
    search_fields = ("=id", "project__name", "branch", "commit_hash", "commit_message", "created_by__username")
    date_hierarchy = "created_at"
    inlines = (TargetInline,)
    fieldsets = (
        (None, {"fields": ("project", "deployment_type", "status", "environment", "server_groups", "error_message")}),
        (gettext_lazy("Code"), {"fields": ("branch", "commit_hash", "commit_message", "release")}),
        (
            gettext_lazy("Progress"),
            {
                "fields": (
                    ("created_by", "launched_for", "trigger"),
                    ("created_at", "started_at", "finished_at"),
                    ("paused_at", "paused_until", "asked_at", "parked_at"),
                    ("cancel_requested_at", "force_requested_at", "roll_back_requested_at", "heartbeat_at"),
                    ("rollback_from", "retry_of"),
                )
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        return super().get_queryset(request).defer("plan")


@admin.register(Target)
class TargetAdmin(ViewOnly[Target], GuardedAdmin[Target]):
    """What happened on each server."""

    list_display = ("server_name", "host", "deployment", "batch", "status", "exit_code", "finished_at")
    list_filter = ("status",)
    list_select_related = ("deployment__project",)
    search_fields = ("server_name", "host", "=deployment__id", "error")
    exclude = ("run_key",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Target]:
        return super().get_queryset(request).select_related("deployment__project").defer("deployment__plan")


@admin.register(LogLine)
class LogLineAdmin(ViewOnly[LogLine], GuardedAdmin[LogLine]):
    """The lines that are not packed yet; the page of a deployment shows all of its own, in colour."""

    list_display = ("id", "deployment_number", "target", "level", "stream", "content", "timestamp")
    list_filter = ("level", "stream")
    list_select_related = ("target",)
    search_fields = ("=deployment__id", "target__server_name", "content")
    show_full_result_count = False  # counting millions of lines takes longer than showing some

    def get_queryset(self, request: HttpRequest) -> QuerySet[LogLine]:
        own = reach(request.user, self.seen_by).condition("deployment__environment", "deployment__project")
        return super().get_queryset(request).filter(own)

    @admin.display(description=gettext_lazy("deployment"), ordering="deployment_id")
    def deployment_number(self, line: LogLine) -> str:
        return f"#{line.deployment_id}"


@admin.register(Release)
class ReleaseAdmin(ViewOnly[Release], GuardedAdmin[Release]):
    """Releases that builds made or people uploaded."""

    list_display = ("version", "project", "state", "origin", "commit_hash", "size", "created_at")
    list_filter = ("state", "origin", ("project", ReachedFilter))
    list_select_related = ("project",)
    search_fields = ("version", "project__name", "commit_hash", "commit_message", "sha256")
    date_hierarchy = "created_at"


class ParameterInline(Guarded[CommandParameter], admin.TabularInline[CommandParameter, SavedCommand]):
    """The parameters of a saved command."""

    changed_by = deleted_by = Action.COMMAND

    model = CommandParameter
    formset = RecordedRows[CommandParameter, SavedCommand]
    extra = 0
    formfield_overrides: ClassVar = {
        TextField: {"form_class": MultilineField, "widget": forms.Textarea(attrs={"rows": 1, "cols": 20})}
    }


@admin.register(SavedCommand)
class SavedCommandAdmin(GuardedAdmin[SavedCommand], RecordedAdmin[SavedCommand]):
    """Scripts that are kept to be run on servers, for those who may run any command there."""

    changed_by = deleted_by = Action.COMMAND

    list_display = ("name", "environment", "run_as", "timeout", "one_by_one", "for_operators", "updated_at")
    list_filter = ("environment", "for_operators")
    search_fields = ("name", "description", "script")
    inlines = (ParameterInline,)
    formfield_overrides: ClassVar = {
        TextField: {
            "form_class": MultilineField,
            "strip": False,
            "widget": forms.Textarea(attrs={"rows": 6, "class": "vLargeTextField", "spellcheck": "false"}),
        }
    }


class CommandTargetInline(
    ViewOnly[CommandTarget], Guarded[CommandTarget], admin.TabularInline[CommandTarget, CommandRun]
):
    """The servers of a run, on its page."""

    model = CommandTarget
    fields = ("server_name", "host", "status", "exit_code", "error", "started_at", "finished_at")


@admin.register(CommandRun)
class CommandRunAdmin(ViewOnly[CommandRun], GuardedAdmin[CommandRun]):
    """What was run on servers. The values that it was given are shown without their secrets."""

    seen_by = Action.RUN

    list_display = ("id", "name", "status", "created_by", "trigger", "created_at", "finished_at")
    list_display_links = ("id", "name")
    list_filter = ("status", "trigger")
    list_select_related = ("created_by",)
    search_fields = ("=id", "name", "script", "created_by__username")
    date_hierarchy = "created_at"
    inlines = (CommandTargetInline,)
    fieldsets = (
        (None, {"fields": ("name", "command", "script", "parameters", "status", "error_message")}),
        (gettext_lazy("How"), {"fields": ("run_as", "timeout", "one_by_one", "not_while_deploying")}),
        (
            gettext_lazy("Progress"),
            {
                "fields": (
                    ("created_by", "launched_for", "trigger"),
                    ("created_at", "started_at", "finished_at"),
                    ("cancel_requested_at", "heartbeat_at"),
                )
            },
        ),
    )
    readonly_fields = ("parameters",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[CommandRun]:
        return super().get_queryset(request).select_related("command")

    @admin.display(description=gettext_lazy("parameters"))
    def parameters(self, run: CommandRun) -> str:
        return "\n".join(f"{name}={value}" for name, value in run.shown_values().items())


class StopInline(ViewOnly[Stop], Guarded[Stop], admin.TabularInline[Stop, Train]):
    """The stops of a train, on its page."""

    model = Stop
    fields = ("position", "project", "deployment_type", "branch", "release")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Stop]:
        return super().get_queryset(request).select_related("project")


@admin.register(Train)
class TrainAdmin(ViewOnly[Train], GuardedAdmin[Train]):
    """Trains, for those who may edit all of their stops; they are put together on their own page."""

    seen_by = Action.EDIT

    list_display = ("name", "mode", "at_failure", "owner", "created_at")
    list_filter = ("mode", "at_failure")
    list_select_related = ("owner",)
    search_fields = ("name", "description", "stops__project__name")
    inlines = (StopInline,)


class TrainStopInline(ViewOnly[TrainStop], Guarded[TrainStop], admin.TabularInline[TrainStop, TrainRun]):
    """The stops of a run, on its page."""

    model = TrainStop
    fields = ("position", "project_name", "environment", "deployment_type", "branch", "commit", "status", "why")


@admin.register(TrainRun)
class TrainRunAdmin(ViewOnly[TrainRun], GuardedAdmin[TrainRun]):
    """What was launched as one, for those who may operate all of its stops."""

    seen_by = Action.OPERATE

    list_display = ("id", "name", "status", "created_by", "trigger", "created_at", "finished_at")
    list_display_links = ("id", "name")
    list_filter = ("status", "trigger")
    list_select_related = ("created_by",)
    search_fields = ("=id", "name", "note", "created_by__username")
    date_hierarchy = "created_at"
    inlines = (TrainStopInline,)


@admin.register(Webhook)
class WebhookAdmin(ViewOnly[Webhook], GuardedAdmin[Webhook]):
    """Webhooks; neither what they are signed with, nor the address that nobody is to guess."""

    list_display = ("name", "project", "provider", "deployment_type", "is_active", "owner", "created_at")
    list_filter = ("provider", "is_active", ("project", ReachedFilter))
    list_select_related = ("project", "owner")
    search_fields = ("name", "project__name", "owner__username")
    fields = (
        *("project", "name", "provider", "events", "refs", "paths", "workflows"),
        *(
            "deployment_type",
            "server_groups",
            "queue",
            "owner",
            "is_active",
            "paused_reason",
            "created_at",
            "updated_at",
        ),
    )


@admin.register(Delivery)
class DeliveryAdmin(ViewOnly[Delivery], GuardedAdmin[Delivery]):
    """What was sent to webhooks, without where from, and what became of it."""

    list_display = ("id", "webhook", "kind", "ref", "status", "outcome", "received_at")
    list_filter = ("status", "outcome", "kind", ("project", ReachedFilter))
    list_select_related = ("webhook",)
    search_fields = ("=id", "webhook__name", "ref", "after", "title", "reason")
    date_hierarchy = "received_at"
    fields = (
        *("webhook", "project", "event", "kind", "ref", "before", "after", "title", "workflow", "size", "times"),
        *("received_at", "status", "outcome", "reason", "deployment", "handled_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        rows = super().get_queryset(request).select_related("webhook", "project", "deployment__project")
        return rows.defer("deployment__plan")


class ScheduleRunInline(ViewOnly[ScheduleRun], Guarded[ScheduleRun], admin.TabularInline[ScheduleRun, Schedule]):
    """What became of the moments of a schedule, on its page."""

    model = ScheduleRun
    fields = ("planned_for", "fired_at", "outcome", "why", "deployment")
    readonly_fields = ("fired_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ScheduleRun]:
        rows = super().get_queryset(request).select_related("schedule", "deployment__project")
        return rows.defer("deployment__plan", "schedule__answers")


@admin.register(Schedule)
class ScheduleAdmin(ViewOnly[Schedule], GuardedAdmin[Schedule]):
    """Schedules with what became of their moments; the answers that they give are not shown."""

    list_display = ("name", "project", "deployment_type", "cron", "at", "is_active", "next_at", "owner")
    list_filter = ("deployment_type", "is_active", ("project", ReachedFilter))
    list_select_related = ("project", "owner")
    search_fields = ("name", "project__name", "owner__username")
    inlines = (ScheduleRunInline,)
    fields = (
        *("project", "name", "deployment_type", "branch", "server_groups", "cron", "at", "time_zone", "missed", "busy"),
        *("owner", "is_active", "paused_reason", "next_at", "created_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        return super().get_queryset(request).defer("answers")


@admin.register(TriggerHold)
class TriggerHoldAdmin(ViewOnly[TriggerHold], GuardedAdmin[TriggerHold]):
    """What holds the triggers of a project, or has held them."""

    list_display = ("reason", "project", "since", "made_by", "lifted_at")
    list_filter = (("project", ReachedFilter),)
    list_select_related = ("project", "made_by")
    search_fields = ("reason", "project__name")
    fields = ("project", "reason", "deployment", "since", "made_by", "made_for", "lifted_at", "lifted_by")

    def get_queryset(self, request: HttpRequest) -> QuerySet[TriggerHold]:
        return super().get_queryset(request).select_related("deployment__project").defer("deployment__plan")


@admin.register(Channel)
class ChannelAdmin(ViewOnly[Channel], GuardedAdmin[Channel]):
    """Channels, for those who may change them: not where they lead to, nor what was answered there."""

    seen_by = Action.EDIT

    list_display = ("name", "kind", "is_active", "made_by", "last_at", "last_ok")
    list_filter = ("kind", "is_active")
    list_select_related = ("made_by",)
    search_fields = ("name",)
    fields = (
        *("name", "kind", "events", "environments", "projects", "only_failures", "first_of_a_row", "language"),
        *("is_active", "made_by", "created_at", "updated_at", "last_at", "last_ok"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        return super().get_queryset(request).defer("address")


@admin.register(Notice)
class NoticeAdmin(ViewOnly[Notice], GuardedAdmin[Notice]):
    """What people are told, by how far it is, without text and answer; mail to people for those who may everywhere."""

    seen_by = Action.EDIT

    list_display = ("id", "event", "channel", "user", "status", "tries", "created_at", "sent_at")
    list_filter = ("status", "event")
    list_select_related = ("channel", "user")
    search_fields = ("=id", "=deployment__id", "channel__name")
    date_hierarchy = "created_at"
    fields = (
        *("channel", "user", "event", "project", "deployment", "status", "tries"),
        *("created_at", "next_at", "sent_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notice]:
        rows = super().get_queryset(request).select_related("channel", "user", "deployment__project")
        return rows.defer("channel__address", "facts", "deployment__plan")
