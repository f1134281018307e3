"""The form of a config file; the content of a secret one goes in and never comes out."""

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from pages.forms import MultilineField, NamedField, SecretsForm, StyledForm, WriteOnlyTextarea
from people.access import choices
from people.recorded_forms import RecordedForm
from people.rights import Person
from people.roles import Action
from projects.config_files import ConfigFile
from servers.models import Server, ServerGroup


class GroupChoice(NamedField[ServerGroup]):
    """One group."""

    names_at = "group_names"


class ServerChoice(NamedField[Server]):
    """One server."""

    names_at = "server_names"


class ConfigFileForm(StyledForm, SecretsForm[ConfigFile], RecordedForm[ConfigFile]):
    """A config file of a project, for groups and servers that ``user`` sees.

    The content of a secret one is write-only; unticking that needs it again, so nothing leaks.
    """

    class Meta:
        model = ConfigFile
        fields = (
            *("path", "content", "is_template", "is_secret", "check_command"),
            *("mode", "owner", "server_group", "server", "position"),
        )
        field_classes: ClassVar = {"content": MultilineField, "server_group": GroupChoice, "server": ServerChoice}
        widgets: ClassVar = {"content": forms.Textarea(attrs={"rows": 18, "spellcheck": "false", "wrap": "off"})}

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        it, fields = self.instance, self.fields
        content: Any = fields["content"]
        content.strip = False
        fields["position"].required = False
        groups: Any = fields["server_group"]
        servers: Any = fields["server"]
        own = {"environment": it.project.environment}
        groups.queryset = choices(user, ServerGroup.objects, Action.SEE, [it.server_group_id]).filter(**own)
        members = ServerGroup.servers.through.objects.filter(servergroup__environment=it.project.environment)
        here = Server.objects.filter(pk__in=members.values("server")).order_by("name")
        servers.queryset = choices(user, Server.objects, Action.SEE, [it.server_id]).filter(pk__in=here.values("pk"))
        groups.empty_label = servers.empty_label = _("All servers")
        for field in (groups, servers):
            field.settle()
        if it.is_secret or self.is_unreadable("content") or self._is_sent_as_secret():
            attrs = {"rows": 8, "class": "form-control mono", "spellcheck": "false"}
            self.make_write_only("content", WriteOnlyTextarea(attrs=attrs))

    def _get_validation_exclusions(self) -> Any:
        """Its project is given, so that a file of the same path there is seen."""
        return super()._get_validation_exclusions() - {"project"}  # type: ignore[misc]  # Django's types lack it

    def clean_position(self) -> int:
        """Nothing is the first place."""
        return self.cleaned_data["position"] or 0

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        it = self.instance
        if self.is_unreadable("content"):
            self.keep_if_empty("content")
        elif it.is_secret and not cleaned.get("content"):
            if not cleaned.get("is_secret") and it.content:
                raise ValidationError(
                    {"content": _("Enter the content again: unticking the box does not reveal a stored secret.")}
                )
            self.keep_if_empty("content")
        return cleaned

    def _is_sent_as_secret(self) -> bool:
        return self.is_bound and bool(self.data.get(self.add_prefix("is_secret")))
