"""The admin of users and of the API's tokens."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from people.admins import keep_an_admin
from people.forms import AdminPasswordForm
from people.models import ApiToken, User
from people.record import saving
from people.recorded_admin import RecordedAdmin
from people.refusals import RefusedError

# What django-allauth keeps is looked after on people's pages, and secrets are among it.
for _model in (EmailAddress, SocialAccount, SocialApp, SocialToken, Authenticator):
    admin.site.unregister(_model)


class SuperusersAdmin(admin.ModelAdmin[Any]):
    """Pages for superusers alone: Django's permissions give nobody a right over people."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)


@admin.register(User)
class PeopleAdmin(SuperusersAdmin, RecordedAdmin[User], UserAdmin[User]):
    """Django's, which says that API tokens outlive a password, revokes them, and keeps an admin."""

    actions = ("revoke_tokens",)
    change_password_form = AdminPasswordForm
    readonly_fields = ("last_login",)  # a sign-in may write it at any moment

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._or_refused(request, super().changeform_view, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._or_refused(request, super().delete_view, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._or_refused(request, super().changelist_view, *args, **kwargs)

    def _or_refused(self, request: HttpRequest, view: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The answer of ``view``; the same page again with why it did nothing, where it was refused."""
        try:
            return view(request, *args, **kwargs)
        except RefusedError as error:
            self.message_user(request, str(error), messages.ERROR)
            return redirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        with keep_an_admin():
            super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        with keep_an_admin():
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        with keep_an_admin():
            super().delete_queryset(request, queryset)

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
class ApiTokenAdmin(SuperusersAdmin, RecordedAdmin[ApiToken]):
    """Tokens are shown once, when they are created; everybody makes their own on the page of their account."""

    list_display = ("name", "user", "prefix", "role", "expires_at", "created_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", "prefix", "user__username")
    readonly_fields = ("prefix", "created_at", "last_used_at")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fields = ("name", "user", "role", "expires_at")
        return fields if obj is None else (*fields, *self.readonly_fields)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.readonly_fields if obj is None else ("user", "role", "expires_at", *self.readonly_fields)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"user": request.user.pk, **super().get_changeform_initial_data(request)}

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        token = None if change else obj.renew()
        super().save_model(request, obj, form, change)
        if token:
            sentence = _("The token of “{name}”, shown only once: {token} Copy it to where you will use it.")
            parts = {"name": obj.name, "token": format_html("<code>{}</code>", token)}
            self.message_user(request, format_html(sentence, **parts), messages.WARNING)
