"""The pages on which users change their own account."""

from django import forms
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.password_validation import password_validators_help_texts
from django.contrib.auth.views import PasswordChangeView
from django.contrib.messages.views import SuccessMessageMixin
from django.core.exceptions import ValidationError
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from pages.forms import StyledForm
from people.models import User
from people.record import saving
from people.sign_in import check_own_password


class PasswordForm(StyledForm, PasswordChangeForm):
    """The old password, and the new one twice."""

    revoke_tokens = forms.BooleanField(
        label=_("Revoke my API tokens, too"),
        required=False,
        help_text=_("Otherwise they go on working. Other sessions end in any case."),
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].help_text = " ".join(password_validators_help_texts())
        if not self.user.api_tokens.exists():
            del self.fields["revoke_tokens"]

    def save(self, commit: bool = True) -> User:
        """Write the new password, and delete the tokens if that was asked for."""
        with saving(self.user):
            user: User = super().save(commit)
            if self.cleaned_data.get("revoke_tokens"):
                user.revoke_tokens()
        return user

    def clean_old_password(self) -> str:
        """The old password is looked at only so often."""
        given: str = self.cleaned_data["old_password"]
        if not check_own_password(self.user, given):
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return given


class PasswordView(SuccessMessageMixin[PasswordChangeForm], PasswordChangeView):
    """A new password; other sessions of the same user end."""

    form_class = PasswordForm
    template_name = "registration/password.html"
    success_url = reverse_lazy("home")
    success_message = _("The password was changed.")
