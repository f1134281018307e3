"""Forms of servers, groups and credentials."""

from collections.abc import Collection
from typing import Any, ClassVar

from django import forms
from django.db.models import Q, TextChoices
from django.utils.translation import gettext_lazy as _

from pages.forms import (
    MultilineField,
    NamedField,
    PickedField,
    PickingForm,
    SecretsForm,
    StyledForm,
    WriteOnlyInput,
    WriteOnlyTextarea,
)
from people.access import choices
from people.record import saving
from people.recorded_forms import ComparedForm, RecordedForm
from people.rights import Person, may, reach
from people.roles import Action
from servers import binding
from servers.belonging import strange_projects
from servers.imports import ansible, openssh
from servers.imports.listing import UnreadableListingError, check_size, text_of
from servers.models import Credential, Environment, Server, ServerGroup
from servers.removal import left_without_group

#: The states of a connection in the order of the tabs.
STATES = [
    (status.value, status.label)
    for status in (
        Server.ConnectionStatus.ONLINE,
        Server.ConnectionStatus.OFFLINE,
        Server.ConnectionStatus.UNTESTED,
    )
]


class CredentialForm(SecretsForm[Credential], ComparedForm[Credential]):
    """A login; its key, passphrase and password are write-only."""

    kept_if_untouched = frozenset({"hosts"})

    secret_widgets: ClassVar = {
        "private_key": WriteOnlyTextarea,
        "passphrase": WriteOnlyInput,
        "password": WriteOnlyInput,
    }

    def keep_if_empty(self, name: str) -> None:
        """A passphrase that cannot be read is gone with the key that it belonged to."""
        if name == "passphrase" and self.is_unreadable(name) and self.cleaned_data.get("private_key"):
            return
        super().keep_if_empty(name)


class BoundServerForm(ComparedForm[Server]):
    """A server that sends its credential only where ``user``, who fills in the form, may have it sent."""

    kept_if_untouched = frozenset({"host_key"})

    user: Person

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.former = binding.before(self.instance)

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # a hook of Django's that its types lack
        if self.errors:
            return
        found = binding.refusals(self.instance, self.former, free=lambda login: binding.may_bind(self.user, login))
        for field, said in found.items():
            self.add_error(field if field in self.fields else None, said)


class CredentialChoice(NamedField[Credential]):
    """One credential."""

    names_at = "credential_names"


class LoginChoice(CredentialChoice):
    """A choice of logins, by name and user; the secrets are not even read.

    The present one stays even if ``user`` may not see it, and is then called by its name alone.
    """

    user: Person = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Credential.objects.none(), **kwargs)

    def offer(self, user: Person, present: int | None) -> None:
        """Offer those that ``user`` may use, and the present one."""
        self.user = user
        self.queryset = choices(user, Credential.objects, Action.EDIT, [present]).defer(*Credential.SECRETS)

    def label_from_instance(self, obj: Credential) -> str:
        if not may(self.user, Action.EDIT, obj):
            return obj.name
        return f"{obj.name} ({obj.username}, {obj.get_kind_display()})"


class ServersChoice(PickedField[Server]):
    """Servers to tick, by name and address."""

    searched = ("name", "host")


class JumpHostChoice(NamedField[Server]):
    """The server on the way."""

    names_at = "server_names"


class GroupChoice(NamedField[ServerGroup]):
    """One group."""

    names_at = "group_names"


class ServerForm(PickingForm, BoundServerForm):
    """A server and the groups it is in. Its host key can be given beforehand; later it has a page of its own.

    ``user`` puts it into groups, and takes it out of groups, of environments that they maintain; who maintains not all
    of them leaves it in at least one.
    """

    credential = LoginChoice(label=_("Credential"), empty_label=_("Choose a login"))
    groups = PickedField(ServerGroup.objects.all(), required=False, label=_("Groups"))

    class Meta:
        model = Server
        fields = ("name", "host", "port", "credential", "jump_host", "tags", "is_active", "host_key")
        field_classes: ClassVar = {"jump_host": JumpHostChoice}
        widgets: ClassVar = {"host_key": forms.TextInput(attrs={"placeholder": "ssh-ed25519 AAAA…"})}
        help_texts: ClassVar = {
            "host": _("A name or an IP address, as it is reached from here or from the jump host."),
            "host_key": _("If you already know it. Empty: the key shown on the first connection is pinned."),
        }

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user, it = user, self.instance
        hops: Any = self.fields["jump_host"]
        hops.empty_label = _("none: it is reached directly")
        hops.queryset = choices(user, Server.objects, Action.OPERATE, [it.jump_host_id]).exclude(pk=it.pk)
        logins: Any = self.fields["credential"]
        logins.offer(user, it.credential_id)
        if it.pk is None and len(known := logins.queryset.values_list("pk", flat=True)[:2]) == 1:
            self.initial.setdefault("credential", known[0])
        present = [*it.groups.values_list("pk", flat=True)] if it.pk else []
        if it.pk is not None:
            del self.fields["host_key"]
            self.initial.setdefault("groups", present)
        groups: Any = self.fields["groups"]
        groups.queryset = choices(user, ServerGroup.objects, Action.EDIT, present)
        for field in self.fields.values():
            if isinstance(field, NamedField):
                field.settle()

    def clean_groups(self) -> Collection[ServerGroup]:
        """The chosen ones, and those that it is in and ``user`` may not take it out of."""
        chosen: list[ServerGroup] = [*self.cleaned_data["groups"]]
        if self.instance.pk:
            fixed = self.instance.groups.exclude(pk__in=ServerGroup.objects.reached_by(self.user, Action.EDIT))
            chosen += [group for group in fixed if group not in chosen]
        if not chosen and not reach(self.user, Action.EDIT).is_everywhere:
            raise forms.ValidationError(
                _("Choose at least one group: a server in none is only for maintainers of all environments.")
            )
        return chosen

    def save(self, commit: bool = True) -> Server:
        """Write only the changed fields: a connection may have updated the others in the meantime."""
        server: Server = self.instance
        with saving(server):
            if server.pk is None:
                server.save()
            else:
                changed = [name for name in ServerForm.Meta.fields if name in self.changed_data]
                server.save(update_fields=[*changed, "updated_at"])
            binding.bind(server, self.user)
            server.groups.set(self.cleaned_data["groups"])
        return server


class BoundGroupForm(ComparedForm[ServerGroup]):
    """A group that moves servers only where ``user``, who fills in the form, may have them."""

    user: Person

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.former = self.instance.environment
        self.present = [*self.instance.servers.all()] if self.instance.pk else []

    def clean_servers(self) -> Collection[Server]:
        """The chosen ones; whoever is taken out stays in another group."""
        chosen: list[Server] = [*self.cleaned_data["servers"]]
        gone = [server for server in self.present if server not in chosen]
        if lost := left_without_group(gone, self.instance, self.user):
            raise forms.ValidationError(
                _("In no other group: %s. Such a server is only for maintainers of all environments.")
                % ", ".join(map(str, lost))
            )
        return chosen

    def clean(self) -> dict[str, Any]:
        """With its environment, a group moves its servers: all of those must be the user's to edit.

        The projects that belong to it stay where they are: none may be left behind.
        """
        given: dict[str, Any] = super().clean() or self.cleaned_data
        if self.instance.pk and given.get("environment") not in (None, self.former):
            if left := strange_projects(self.instance, given["environment"]):
                why = _("These projects of %(environment)s belong to it: %(projects)s. Take it from them first.")
                words = {"environment": Environment(self.former).label, "projects": ", ".join(map(str, left))}
                self.add_error("environment", why % words)
            fixed = [server for server in given.get("servers", ()) if not may(self.user, Action.EDIT, server)]
            if fixed:
                why = _("You have no right to move these servers to another environment: %s.")
                self.add_error("environment", why % ", ".join(map(str, fixed)))
        return given


class GroupForm(PickingForm, BoundGroupForm, RecordedForm[ServerGroup]):
    """A group on a page of its own. ``user`` puts servers into it that they may edit, wherever else those are."""

    servers = ServersChoice(queryset=Server.objects.all(), required=False, label=_("Servers"))

    class Meta:
        model = ServerGroup
        fields = ("name", "description", "environment", "servers")
        widgets: ClassVar = {"description": forms.Textarea(attrs={"rows": 2})}
        help_texts: ClassVar = {"environment": _("Only projects of the same environment can be deployed here.")}

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        offer_environments(self, user)
        servers: Any = self.fields["servers"]
        servers.queryset = choices(user, Server.objects, Action.EDIT, [server.pk for server in self.present])


def offer_environments(form: forms.ModelForm[Any], user: Person) -> None:
    """Let a form choose environments that ``user`` maintains; none at all only if they maintain all."""
    reached, field = reach(user, Action.EDIT), form.fields["environment"]
    allowed = {*reached.environments(Environment.values), *([""] if reached.is_everywhere else [])}
    known: Any = field
    known.choices = [(value, label) for value, label in known.choices if value in allowed]
    known.required = not any(value == "" for value, _label in known.choices)
    if form.instance.pk is None and known.choices and form.initial.get("environment") not in allowed:
        form.initial["environment"] = known.choices[0][0]


class LoginForm(StyledForm, CredentialForm, RecordedForm[Credential]):
    """A credential on a page of its own. A key has a password beside it only where that is ticked."""

    with_password = forms.BooleanField(label=_("Servers want a password too, behind the key"), required=False)
    purpose = forms.ChoiceField(
        label=_("Used for"), choices=Credential.Purpose, required=False, initial=Credential.Purpose.BOTH
    )
    field_order = (
        *("name", "environment", "username", "kind", "private_key", "passphrase", "with_password", "password"),
        *("purpose", "hosts"),
    )

    class Meta:
        model = Credential
        fields = (
            *("name", "environment", "username", "kind", "private_key", "passphrase", "password"),
            *("purpose", "hosts"),
        )
        field_classes: ClassVar = {"private_key": MultilineField, "hosts": MultilineField}
        widgets: ClassVar = {
            "kind": forms.RadioSelect,
            "hosts": forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "placeholder": "*.example.com"}),
        }
        help_texts: ClassVar = {
            "private_key": _("The whole file, from -----BEGIN to -----END. It is stored encrypted."),
            "passphrase": _("If the private key has one."),
        }

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        environment: Any = self.fields["environment"]
        environment.choices = [("", _("none: only for maintainers of all environments")), *Environment.choices]
        offer_environments(self, user)
        self.initial["with_password"] = self.is_unreadable("password") or bool(self.instance.password)

    def clean(self) -> dict[str, Any]:
        given = super().clean()
        if given.get("kind") == Credential.Kind.SSH_KEY and not given.get("with_password"):
            given["password"] = ""
            self.errors.pop("password", None)  # it is not asked for
        return given


class ServerFilter(forms.Form):
    """Selects the servers to list; invalid values are ignored, and so are groups that ``user`` does not see."""

    status = forms.CharField(required=False)
    group = GroupChoice(ServerGroup.objects.all(), required=False, empty_label=_("All groups"))
    text = forms.CharField(required=False, max_length=100)
    tag = forms.CharField(required=False, max_length=40)

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        group: Any = self.fields["group"]
        group.queryset = ServerGroup.objects.reached_by(user)
        group.settle(is_small=True)

    def lookups(self) -> Q:
        """The lookups of the filter, except the state."""
        self.full_clean()
        wanted, values = Q(), self.cleaned_data
        if group := values.get("group"):
            wanted &= Q(groups=group)
        elif name := str(self.data.get("group") or "").strip():
            wanted &= Q(groups__name__icontains=name) if self.fields["group"].is_typed else Q()  # type: ignore[attr-defined]
        if text := values.get("text"):
            wanted &= Q(name__icontains=text) | Q(host__icontains=text)
        if tag := values.get("tag", "").lower():
            wanted &= (
                Q(tags=tag) | Q(tags__startswith=f"{tag} ") | Q(tags__endswith=f" {tag}") | Q(tags__contains=f" {tag} ")
            )
        return wanted

    def status_lookups(self) -> Q:
        """The lookups of the chosen state."""
        self.full_clean()
        asked = self.cleaned_data.get("status", "")
        return next((wanted for value, _label, wanted in self.states() if value == asked), Q())

    @staticmethod
    def states() -> list[tuple[str, Any, Q]]:
        """Each state: its value in the address, its name, and the servers that have it."""
        active = [(value, label, Q(is_active=True, connection_status=value)) for value, label in STATES]
        return [("", _("All"), Q()), *active, ("inactive", _("Inactive"), Q(is_active=False))]


class ImportForm(StyledForm, forms.Form):
    """The text of a file of another tool, pasted or uploaded."""

    class Tool(TextChoices):
        OPENSSH = "openssh", _("OpenSSH client config")
        ANSIBLE = "ansible", _("Ansible inventory")

    source = forms.ChoiceField(choices=Tool, widget=forms.RadioSelect, initial=Tool.OPENSSH, label=_("What it is"))
    file = forms.FileField(required=False, label=_("File"), allow_empty_file=True)
    text = forms.CharField(
        required=False,
        strip=False,
        label=_("or its text"),
        widget=forms.Textarea(attrs={"rows": 12, "spellcheck": "false"}),
    )

    def clean(self) -> dict[str, Any]:
        """One of both, not too large, read into ``listing``."""
        values = super().clean() or {}
        file, text = values.get("file"), values.get("text", "")
        if file is None and not text.strip():
            raise forms.ValidationError(_("Choose a file or paste its text."))
        if values.get("source") is None:
            return values
        try:
            check_size(file.size if file is not None else len(text))
            data = file.read() if file is not None else text.encode(errors="replace")
            content = text_of(data).replace("\r\n", "\n")
            if values["source"] == self.Tool.OPENSSH:
                values["listing"] = openssh.read(content)
            else:
                values["listing"] = ansible.read(content, file.name if file is not None else "")
        except UnreadableListingError as error:
            raise forms.ValidationError(str(error)) from error
        return values
