"""What pages send, read into values. The rules of a launch are kept by deployer.launching."""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from deployer.gates.deciding import waiting_for
from deployer.log.wanted import Wanted
from deployer.models import LONGEST_REASON, Deployment, DeploymentQuerySet, LogLine, Target
from deployer.releases.reader.names import ENCODINGS
from pages.forms import NamedField, PickingForm, RowsField, StyledForm
from people.models import User
from people.rights import Person
from people.roles import Action
from projects.answer_forms import field_of_question
from projects.models import Project
from projects.questions import Question
from projects.validators import LONGEST_PAUSE, LONGEST_QUESTION
from servers.forms import ServersChoice
from servers.models import Environment, Server, ServerGroup
from servers.validators import validate_one_line

#: What of its pauses, and of what it asks, can be chosen for one launch.
CHOSEN_OF_PAUSES = ("pause_after", "pause_for", "guided_failure", "guided_for")


class LaunchForm(PickingForm, forms.Form):
    """A launch as it was filled in, right or wrong.

    ``servers`` are those that were picked, none where it goes to all of the groups; ``elsewhere`` are the groups of
    which was confirmed that they are not the project's own. ``questions`` are what the launch asks for; the answer to
    each has a field of its own.
    """

    #: What the fields of answers, and their names in an address, begin with.
    ANSWER: ClassVar = "answer-"

    deployment_type = forms.CharField(required=False)
    branch = forms.CharField(required=False, strip=True)
    release = forms.CharField(required=False, strip=True)
    rebuild = forms.BooleanField(required=False)
    server_groups = RowsField(ServerGroup.objects.none(), required=False)
    elsewhere = RowsField(ServerGroup.objects.none(), required=False)
    servers = ServersChoice(Server.objects.none(), required=False)
    batches = forms.CharField(required=False, strip=True, max_length=200)
    max_failures = forms.IntegerField(required=False, min_value=0, max_value=10_000)
    pause_after = forms.CharField(required=False, strip=True, max_length=200)
    pause_for = forms.IntegerField(required=False, min_value=0, max_value=LONGEST_PAUSE)
    guided_failure = forms.NullBooleanField(required=False)
    guided_for = forms.IntegerField(required=False, min_value=1, max_value=LONGEST_QUESTION)
    confirm = forms.CharField(required=False, strip=True)
    overwrite_changed = forms.BooleanField(required=False)
    queue = forms.BooleanField(required=False)
    stays_in_line = forms.BooleanField(required=False)
    former_values = forms.BooleanField(required=False)
    override = forms.CharField(required=False, strip=True, max_length=LONGEST_REASON, validators=[validate_one_line])

    def __init__(self, *args: Any, user: Person, questions: Sequence[Question] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.questions = questions
        for question in questions:
            self.fields[f"{self.ANSWER}{question.name}"] = field_of_question(question)
        groups = ServerGroup.objects.reached_by(user, Action.OPERATE)
        members = ServerGroup.servers.through.objects.filter(servergroup__in=groups.order_by().values("pk"))
        fields: dict[str, Any] = self.fields
        fields["server_groups"].queryset = fields["elsewhere"].queryset = groups
        fields["servers"].queryset = Server.objects.filter(pk__in=members.values("server"))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        builds = cleaned.get("deployment_type") not in Deployment.WITHOUT_RELEASE and not cleaned.get("release")
        for question in self.questions:
            name = f"{self.ANSWER}{question.name}"
            if name not in self.errors and (why := question.problem(cleaned.get(name, ""), builds=builds)):
                self.add_error(name, why)
        return cleaned

    @property
    def asked_for(self) -> list[forms.BoundField]:
        """The fields of the questions."""
        return [self[f"{self.ANSWER}{question.name}"] for question in self.questions]

    @property
    def answers(self) -> dict[str, str]:
        """The answers that were given, by name."""
        given = {
            question.name: self.cleaned_data.get(f"{self.ANSWER}{question.name}", "") for question in self.questions
        }
        return {name: answer for name, answer in given.items() if answer}

    @property
    def has_own_rollout(self) -> bool:
        """Whether anything of its batches, pauses and failures was filled in, right or wrong."""
        names = ("batches", "max_failures", *CHOSEN_OF_PAUSES)
        return any(self[name].errors or self[name].value() not in {None, ""} for name in names)

    def ids(self, name: str) -> set[int]:
        """The ids that were sent for a field, right or wrong."""
        return {int(pk) for pk in map(str, self[name].value() or ()) if pk.isdecimal() and len(pk) < 19}

    def offer_servers(self) -> None:
        """Offer the servers of the chosen groups, and those that are picked: ``is_stray`` where in none of these."""
        members = ServerGroup.servers.through.objects.filter(servergroup__in=self.ids("server_groups"))
        field: Any = self.fields["servers"]
        theirs = Q(pk__in=members.values("server")) | Q(pk__in=self.ids("servers"))
        is_stray = ~Exists(members.filter(server=OuterRef("pk")))
        field.queryset = field.queryset.filter(theirs).annotate(is_stray=is_stray)

    def confirm_name(self, project: Project) -> bool:
        """Whether the name of ``project`` is typed, where that is asked for."""
        if not project.asks_for_name or self.cleaned_data["confirm"] == project.name:
            return True
        self.add_error("confirm", _("Type the name of the project to launch it: %s") % project.name)
        return False

    @staticmethod
    def chosen(query: QueryDict) -> dict[str, Any]:
        """The choices in the address: ``?type=full&branch=v2&group=3&group=4&server=7``, ``?release=VERSION``."""
        names = ("branch", "release", "rebuild", "batches", "max_failures", *CHOSEN_OF_PAUSES)
        values: dict[str, Any] = {name: query[name] for name in names if name in query}
        if "type" in query:
            values["deployment_type"] = query["type"]
        if "group" in query:
            values["server_groups"] = query.getlist("group")
        if "server" in query:
            values["servers"] = query.getlist("server")
        return values | {name: query[name] for name in query if name.startswith(LaunchForm.ANSWER)}


class ServerChoice(NamedField[Server]):
    """One server, of which much is shown."""

    names_at = "server_names"


class ServerOfProject(StyledForm, forms.Form):
    """A server of which the variables of a project are shown: of its environment, or one that it was deployed to."""

    server = ServerChoice(Server.objects.none(), required=False, empty_label=_("No server in particular"))

    def __init__(self, query: QueryDict, *, user: Person, project: Project) -> None:
        super().__init__(query)
        field: Any = self.fields["server"]
        near = Q(groups__environment=project.environment) | Q(standings__project=project)
        found = Server.objects.filter(near).order_by().values("pk")
        field.queryset = Server.objects.reached_by(user).filter(pk__in=found).order_by("name")
        field.settle(is_small=True)
        self.is_valid()

    @property
    def chosen(self) -> Server | None:
        """The server, if there is such a one."""
        found: Server | None = self.cleaned_data.get("server")
        return found


class LogFilter(forms.Form):
    """Selects the lines of a log to show; invalid values are ignored."""

    server = forms.ModelChoiceField(Target.objects.none(), required=False, empty_label=_("All servers"))
    level = forms.ChoiceField(
        choices=[("", _("All levels")), ("warning", _("Warnings and errors")), ("error", _("Errors"))], required=False
    )
    stream = forms.ChoiceField(choices=[("", _("All streams")), *LogLine.Stream.choices], required=False)
    text = forms.CharField(required=False, max_length=200, strip=False)

    def __init__(self, query: QueryDict, targets: QuerySet[Target]) -> None:
        super().__init__(query)
        self.fields["server"].queryset = targets  # type: ignore[attr-defined]
        self.is_valid()

    @property
    def chosen(self) -> dict[str, str]:
        """The chosen values as address parameters."""
        return {name: self.data[name] for name, value in self.cleaned_data.items() if value}

    @property
    def wanted(self) -> Wanted:
        """The lines that are shown."""
        return Wanted.of(self.chosen)

    @property
    def query(self) -> str:
        """What is chosen, as the part of an address: begins with ``&``, or is empty."""
        return f"&{urlencode(self.chosen)}" if self.chosen else ""


class PackageForm(forms.Form):
    """A release that was built elsewhere."""

    package = forms.FileField(allow_empty_file=False, max_length=200, label=_("Package"))
    note = forms.CharField(required=False, max_length=500, label=_("What it is"))
    encoding = forms.ChoiceField(
        choices=[("", _("as it says, or UTF-8")), *((key, encoding.label) for key, encoding in ENCODINGS.items())],
        required=False,
        label=_("Encoding of its names"),
    )


class ProjectChoice(NamedField[Project]):
    """One project; those that are archived come last, and say so."""

    names_at = "project_names"

    def label_from_instance(self, project: Project) -> str:
        """Its name, which an archived one may have as well."""
        return project.label


class HistoryFilter(forms.Form):
    """Selects the deployments of a list; invalid values are ignored.

    Where the project is typed, a part of a name stands for all projects with it.
    """

    project = ProjectChoice(Project.objects.none(), required=False, empty_label=_("All projects"))
    environment = forms.ChoiceField(choices=[("", _("All environments")), *Environment.choices], required=False)
    type = forms.ChoiceField(choices=[("", _("All types")), *Deployment.Type.choices], required=False)
    person = forms.ModelChoiceField(User.objects.none(), required=False, empty_label=_("Everybody"))
    since = forms.DateField(required=False)
    until = forms.DateField(required=False)
    status = forms.ChoiceField(
        choices=[
            ("", _("All")),
            ("active", _("Running or waiting")),
            ("paused", _("Paused")),
            ("for_me", _("Waiting for me")),
            *Deployment.Status.choices,
        ],
        required=False,
    )

    def __init__(self, query: QueryDict, user: Person) -> None:
        """It offers the projects that ``user`` sees, and who has launched what they see."""
        super().__init__(query)
        self._user = user
        launched = Deployment.objects.reached_by(user).exclude(created_by=None).order_by().values("created_by")
        offered = {
            "project": Project.objects.reached_by(user).with_archived_last(),
            "person": User.objects.filter(pk__in=launched).order_by("username"),
        }
        for name, rows in offered.items():
            field: Any = self.fields[name]
            field.queryset = rows
        project: Any = self.fields["project"]
        project.settle(is_small=True)
        self.is_valid()

    def lookups(self) -> dict[str, Any]:
        """The filter, but for the status, as keyword arguments of a queryset."""
        names = {
            "type": "deployment_type",
            "person": "created_by",
            "since": "created_at__date__gte",
            "until": "created_at__date__lte",
        }
        chosen = {name: value for name, value in self.cleaned_data.items() if value and name != "status"}
        project: Any = self.fields["project"]
        part = str(self.data.get("project") or "").strip()[:100]
        if project.is_typed and part and "project" not in chosen:
            chosen["project__name__icontains"] = part
        return {names.get(name, name): value for name, value in chosen.items()}

    def told(self, name: str) -> str:
        """What one of the fields has been filled in with, in words."""
        value = self.cleaned_data[name]
        choices = dict(getattr(self.fields[name], "choices", ()) or ()) if isinstance(value, str) else {}
        return str(choices.get(value, value))

    def of_status(self, chosen: DeploymentQuerySet) -> DeploymentQuerySet:
        """Of these deployments those of the chosen status. One that is paused is of no other."""
        status = self.cleaned_data.get("status")
        if status == "active":
            return chosen.active()
        if status == "paused":
            return chosen.paused()
        if status == "for_me":
            return chosen.filter(pk__in=waiting_for(self._user).values("pk"))
        if status in Deployment.ROLLING_OUT:
            return chosen.filter(status=status, paused_at=None)
        return chosen.filter(status=status) if status else chosen
