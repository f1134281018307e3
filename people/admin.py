"""The admin of users and of the API's tokens."""

from http import HTTPStatus
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from people.models import ApiToken, User
from people.record import saving
from people.recorded_admin import RecordedAdmin
from people.sign_in import AdminSignInForm

admin.site.login_form = AdminSignInForm


@admin.register(User)
class PeopleAdmin(RecordedAdmin[User], UserAdmin[User]):
    """Django's, which says that API tokens outlive a password, and revokes them."""

    actions = ("revoke_tokens",)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """A new password; whose API tokens still work is said."""
        user = self.get_object(request, unquote(id))
        if request.method == "POST" and user is not None:
            with saving(user):
                response = super().user_change_password(request, id, form_url)
        else:
            response = super().user_change_password(request, id, form_url)
        if response.status_code == HTTPStatus.FOUND and user is not None and (count := user.api_tokens.count()):
            sentence = ngettext(
                "%d API token of this user still works: revoke it in the list of users.",
                "%d API tokens of this user still work: revoke them in the list of users.",
                count,
            )
            self.message_user(request, sentence % count, messages.WARNING)
        return response

    @admin.action(description=gettext_lazy("Revoke API tokens"), permissions=["change"])
    def revoke_tokens(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        count = sum(user.revoke_tokens() for user in queryset)
        self.message_user(request, _("API tokens revoked: %d") % count, messages.SUCCESS)


@admin.register(ApiToken)
class ApiTokenAdmin(RecordedAdmin[ApiToken]):
    """Tokens are shown once, when they are created. Only superusers see and create those of others."""

    list_display = ("name", "user", "prefix", "created_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", "prefix", "user__username")
    readonly_fields = ("prefix", "created_at", "last_used_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        tokens = super().get_queryset(request)
        return tokens if request.user.is_superuser else tokens.filter(user=request.user.pk)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name", "user") if obj is None else ("name", "user", "prefix", "created_at", "last_used_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.readonly_fields if obj is None else ("user", *self.readonly_fields)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"user": request.user.pk, **super().get_changeform_initial_data(request)}

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user" and not request.user.is_superuser:
            kwargs["queryset"] = db_field.related_model.objects.filter(pk=request.user.pk)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        token = None if change else obj.renew()
        super().save_model(request, obj, form, change)
        if token:
            sentence = _("The token of “{name}”, shown only once: {token} Copy it to where you will use it.")
            parts = {"name": obj.name, "token": format_html("<code>{}</code>", token)}
            self.message_user(request, format_html(sentence, **parts), messages.WARNING)
