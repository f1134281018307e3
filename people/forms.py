"""The forms of people's pages: what is chosen in them never reaches beyond what their reader may give."""

from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any, ClassVar, cast

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AdminPasswordChangeForm, PasswordChangeForm, SetPasswordForm
from django.contrib.auth.password_validation import password_validators_help_texts
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pages.forms import PickedField, PickingForm, StyledForm
from people.models import ApiToken, PasswordLink, Team, User
from people.places import Known, chosen, place_of
from people.preferences import zones
from people.record import saving
from people.recorded_forms import RecordedForm
from people.rights import reach
from people.roles import EVERYWHERE, Action, Place, Reach, Role
from people.sign_in import check_own_password

#: Days that a token may last, by name; else until a date.
LIFETIMES = {"30": gettext_lazy("30 days"), "90": gettext_lazy("90 days"), "365": gettext_lazy("a year")}
#: The last day that a token may be given.
LONGEST = timedelta(days=3650)


def offer(form: forms.BaseForm, name: str, choices: Iterable[tuple[Any, Any]]) -> None:
    """Let the field ``name`` of ``form`` take these, and no others."""
    cast(forms.ChoiceField, form.fields[name]).choices = [*choices]


class UserFilter(StyledForm, forms.Form):
    """Which people a list shows."""

    STATES = (
        ("", gettext_lazy("All")),
        ("active", gettext_lazy("Active")),
        ("invited", gettext_lazy("Invited")),
        ("deactivated", gettext_lazy("Deactivated")),
        ("service", gettext_lazy("Service accounts")),
    )
    text = forms.CharField(required=False, max_length=100)
    state = forms.ChoiceField(required=False, choices=STATES)

    def __init__(self, query: QueryDict) -> None:
        super().__init__(query)
        self.is_valid()

    def value(self, name: str) -> str:
        """What was asked for; nothing where it makes no sense."""
        return str(self.cleaned_data.get(name, ""))

    def by_text(self) -> Q:
        """The condition of the search."""
        text = self.value("text")
        return Q(username__icontains=text) | Q(email__icontains=text) if text else Q()

    @staticmethod
    def by_state(state: str) -> Q:
        """The condition of a state."""
        is_invited = Q(is_active=False, password_link__purpose=PasswordLink.Purpose.INVITATION)
        return {
            "active": Q(is_active=True, is_service=False),
            "invited": is_invited,
            "deactivated": Q(is_active=False) & ~is_invited,
            "service": Q(is_service=True),
        }.get(state, Q())


class GrantForm(StyledForm, forms.Form):
    """A role and where it holds, of the places that ``actor`` administers."""

    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=Role.choices, initial=Role.VIEWER)
    place = forms.ChoiceField(label=gettext_lazy("Holds"))
    may_run_commands = forms.BooleanField(label=gettext_lazy("Runs commands on servers there"), required=False)

    def __init__(self, actor: User, known: Known, data: QueryDict | None = None) -> None:
        super().__init__(data)
        offer(self, "place", known.choices(reach(actor, Action.ADMINISTER)))

    def grant(self) -> tuple[Role, Place]:
        """What was chosen."""
        return Role(self.cleaned_data["role"]), place_of(self.cleaned_data["place"])


class PeopleField(PickedField[User]):
    """Users to tick."""

    searched = ("username", "email")


class _NewUserForm(PickingForm, forms.ModelForm[User]):
    """The name of a new account and what it is to be from the start."""

    role = forms.ChoiceField(label=gettext_lazy("Role"), required=False)
    place = forms.ChoiceField(label=gettext_lazy("Holds"), required=False)
    teams = PickedField(
        label=gettext_lazy("Teams"),
        queryset=Team.objects.all(),
        required=False,
        help_text=gettext_lazy("What a team was granted holds for all of its members."),
    )

    def __init__(self, *args: Any, known: Known, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "role", [("", _("None of their own")), *Role.choices])
        offer(self, "place", known.choices(Reach(frozenset({EVERYWHERE}))))
        self.initial.setdefault("place", chosen(EVERYWHERE))
        name = self.fields["username"]
        name.label, name.help_text = _("User name"), _("Letters, digits and @ . + - _ only.")
        name.widget.attrs |= {"autocapitalize": "none", "spellcheck": "false"}

    def grants(self) -> list[tuple[Role, Place]]:
        """What was chosen."""
        role = self.cleaned_data["role"]
        return [(Role(role), place_of(self.cleaned_data["place"] or chosen(EVERYWHERE)))] if role else []


class InviteForm(_NewUserForm):
    """Somebody who is to come in by a link."""

    class Meta:
        model = User
        fields = ("username", "email")
        labels: ClassVar = {"email": gettext_lazy("E-mail")}

    field_order = ("username", "email", "role", "place", "teams")


class ServiceForm(_NewUserForm):
    """An account for a program."""

    class Meta:
        model = User
        fields = ("username",)

    field_order = ("username", "role", "place", "teams")

    def save(self, commit: bool = True) -> User:
        self.instance.is_service = True
        return super().save(commit)


class TeamForm(PickingForm, RecordedForm[Team]):
    """A team's name and its members, to which the provider adds those who sign in."""

    kept_if_untouched = frozenset({"members"})

    members = PeopleField(label=gettext_lazy("Members"), queryset=User.objects.all(), required=False)

    class Meta:
        model = Team
        fields = ("name", "provider_group")

    field_order = ("name", "provider_group", "members")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not settings.DEPLOYER_OIDC_ISSUER and not self.instance.provider_group:
            del self.fields["provider_group"]
        if self.instance.pk:
            self.initial.setdefault("members", [*self.instance.members.values_list("pk", flat=True)])


class TokenForm(StyledForm, forms.ModelForm[ApiToken]):
    """A token for ``user``, that allows at most what they may; none can be made for who may do nothing."""

    projects = forms.TypedMultipleChoiceField(
        label=gettext_lazy("Projects"),
        coerce=int,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("Without any it is for all that you may see, also for what comes later."),
    )
    lasts = forms.ChoiceField(
        label=gettext_lazy("Expires in"), choices=[*LIFETIMES.items(), ("date", gettext_lazy("on a date"))]
    )
    until = forms.DateField(
        label=gettext_lazy("Last day"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )

    class Meta:
        model = ApiToken
        fields = ("name", "role", "projects")

    field_order = ("name", "role", "lasts", "until", "projects")

    def __init__(self, user: User, known: Known, data: QueryDict | None = None) -> None:
        super().__init__(data, instance=ApiToken(user=user), initial={"lasts": "90", "role": Role.VIEWER})
        roles = [*dict.fromkeys(action.role for action in Action if reach(user, action))]
        projects = known.within(reach(user, Action.SEE))
        self.may_be_made = bool(roles)
        offer(self, "role", [(role.value, role.label) for role in roles])
        offer(self, "projects", [(project.number, project.name) for project in projects])
        if not projects:
            del self.fields["projects"]

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if self.instance.user.api_tokens.filter(name=name).exists():
            raise ValidationError(_("There is a token of this name already."))
        return name

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        lasts, until, today = values.get("lasts"), values.get("until"), timezone.localdate()
        if lasts != "date":
            return values
        if until is None and "until" not in self.errors:
            self.add_error("until", _("Enter the last day on which it is to be good."))
        elif until is not None and not today <= until <= today + LONGEST:
            self.add_error("until", _("Enter a day from today on, and within ten years."))
        return values

    def save(self, commit: bool = True) -> ApiToken:
        """The token with its expiry; it is given its secret by `ApiToken.renew` before."""
        if self.cleaned_data["lasts"] == "date":
            ends = datetime.combine(self.cleaned_data["until"] + timedelta(days=1), time.min)
            self.instance.expires_at = timezone.make_aware(ends)
        else:
            self.instance.expires_at = timezone.now() + timedelta(days=int(self.cleaned_data["lasts"]))
        with saving(self.instance):
            return super().save(commit)


class PreferencesForm(StyledForm, RecordedForm[User]):
    """How pages are shown to their reader."""

    language = forms.ChoiceField(label=gettext_lazy("Language"), required=False)
    time_zone = forms.ChoiceField(label=gettext_lazy("Time zone"), required=False)

    class Meta:
        model = User
        fields = ("language", "time_zone", "mail_about")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "language", [("", _("As the browser asks for")), *settings.LANGUAGES])
        own = _("As the site: %s") % settings.TIME_ZONE
        offer(self, "time_zone", [("", own), *((name, name) for name in sorted(zones()))])
        self.fields["mail_about"].required = False

    def clean_mail_about(self) -> str:
        """As it was, where it is not among what is sent."""
        return str(self.cleaned_data["mail_about"] or self.instance.mail_about)


class PasswordColumn:
    """A form that writes a password, and no other column: an account may be deactivated at the same moment."""

    def set_password_and_save(self, user: User, *args: Any, commit: bool = True, **kwargs: Any) -> User:
        """As Django's, which writes the whole row."""
        mixed_in: Any = super()
        mixed_in.set_password_and_save(user, *args, commit=False, **kwargs)
        if commit:
            user.save(update_fields=["password"])
        return user


class AdminPasswordForm(PasswordColumn, AdminPasswordChangeForm):  # type: ignore[type-arg]  # takes none at run time
    """The password of somebody else, on a page of the admin."""


class PasswordForm(PasswordColumn, StyledForm, PasswordChangeForm):
    """The old password, and the new one twice."""

    revoke_tokens = forms.BooleanField(
        label=gettext_lazy("Revoke my API tokens, too"),
        required=False,
        help_text=gettext_lazy("Otherwise they go on working. Other sessions end in any case."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
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


class NewPasswordForm(StyledForm, SetPasswordForm):  # type: ignore[type-arg]  # takes none at run time
    """The first password of somebody who was invited, or another one for who has lost it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].help_text = " ".join(password_validators_help_texts())
