"""The admin of credentials, servers and groups."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db import models
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from pages.forms import MultilineField
from people.guarded_admin import GuardedAdmin, ReachedFilter
from people.record import Act, Event, actor, record_all
from people.recorded_admin import RecordedAdmin
from people.rights import reach
from people.roles import Action
from servers import binding
from servers.connection import try_connections
from servers.forms import BoundGroupForm, BoundServerForm, CredentialForm
from servers.keys import fingerprint
from servers.models import Credential, Server, ServerGroup
from servers.removal import left_without_group


@admin.register(Credential)
class CredentialAdmin(GuardedAdmin[Credential], RecordedAdmin[Credential]):
    """Secrets go in and never come out, not even for those who may edit them."""

    seen_by = Action.EDIT

    form = CredentialForm
    list_display = (
        "name",
        "username",
        "environment",
        "kind",
        "purpose",
        "has_private_key",
        "has_password",
        "server_count",
    )
    list_filter = ("environment", "kind", "purpose")
    search_fields = ("name", "username", "hosts")
    ordering = ("name",)  # the model's own is lost where rows are counted
    formfield_overrides: ClassVar = {models.TextField: {"form_class": MultilineField, "strip": False}}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Credential]:
        return super().get_queryset(request).annotate(servers_with_it=Count("servers"))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [
            (None, {"fields": ("name", "environment", "username", "kind")}),
            (_("Login by SSH key"), {"fields": ("private_key", "passphrase")}),
            (_("Login by password, or by key and password"), {"fields": ("password",)}),
            (_("Where it is sent"), {"fields": ("purpose", "hosts")}),
        ]

    @admin.display(description=_("private key"), boolean=True)
    def has_private_key(self, credential: Credential) -> bool | None:
        return credential.has("private_key")

    @admin.display(description=_("password"), boolean=True)
    def has_password(self, credential: Credential) -> bool | None:
        return credential.has("password")

    @admin.display(description=_("servers"), ordering="servers_with_it")
    def server_count(self, credential: Any) -> int:
        return int(credential.servers_with_it)


@admin.register(Server)
class ServerAdmin(GuardedAdmin[Server], RecordedAdmin[Server]):
    """Machines, and the button that tests the way to them. Their groups are chosen on the page of a group."""

    chosen_by: ClassVar = {"jump_host": Action.OPERATE}

    form = BoundServerForm
    list_display = ("name", "address", "credential", "jump_host", "is_active", "connection_status", "last_checked_at")
    list_filter = ("is_active", "connection_status", "groups__environment", ("groups", ReachedFilter))
    list_select_related = ("credential", "jump_host")
    search_fields = ("name", "host")
    autocomplete_fields = ("credential", "jump_host")
    actions = ("test_connections",)
    readonly_fields = ("host_key_fingerprint", "connection_status", "connection_error", "last_checked_at", "facts")
    fieldsets = (
        (None, {"fields": ("name", "host", "port", "credential", "jump_host", "is_active")}),
        (_("Host key"), {"fields": ("host_key", "host_key_fingerprint")}),
        (_("Last connection"), {"fields": ("connection_status", "connection_error", "last_checked_at", "facts")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Server]:
        secrets = (f"credential__{name}" for name in Credential.SECRETS)
        return super().get_queryset(request).select_related("credential").defer(*secrets)

    def save_model(self, request: HttpRequest, obj: Server, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        binding.bind(obj, form.user)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Like Django's own, but names the obstacle instead of the missing permission to delete it."""
        deleted, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return deleted, counts, set() if protected else lacking, protected

    @admin.display(description=_("fingerprint"))
    def host_key_fingerprint(self, server: Server) -> str:
        return fingerprint(server.host_key) or str(_("No key is pinned yet."))

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return bool(reach(request.user, Action.OPERATE))

    @admin.action(description=_("Test connection"), permissions=["operate"])
    def test_connections(self, request: HttpRequest, queryset: QuerySet[Server]) -> None:
        allowed = Server.objects.reached_by(request.user, Action.OPERATE).filter(pk__in=queryset.values("pk"))
        servers = [*allowed.select_related("credential", "jump_host")]
        record_all(actor(), [Event(Act.TESTED, server) for server in servers])
        for report in try_connections(servers):
            self.message_user(request, str(report), messages.SUCCESS if report.ok else messages.ERROR)


@admin.register(ServerGroup)
class ServerGroupAdmin(GuardedAdmin[ServerGroup], RecordedAdmin[ServerGroup]):
    """Servers that are deployed to together."""

    form = BoundGroupForm
    list_display = ("name", "environment", "server_names", "description")
    list_filter = ("environment",)
    search_fields = ("name", "description", "servers__name")
    filter_horizontal = ("servers",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServerGroup]:
        return super().get_queryset(request).prefetch_related("servers")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not for whoever would lose its servers with it."""
        may_delete = super().has_delete_permission(request, obj)
        return may_delete and (obj is None or not left_without_group([*obj.servers.all()], obj, request.user))

    @admin.display(description=_("servers"))
    def server_names(self, group: ServerGroup) -> str:
        return ", ".join(server.name for server in group.servers.all())
