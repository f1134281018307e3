"""What pages send, read into values. The rules of a launch are kept by deployer.launch."""

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from deployer.models import Deployment, LogLine, Target
from projects.models import Project
from servers.models import Environment, ServerGroup


class LaunchForm(forms.Form):
    """A launch as it was filled in, right or wrong."""

    deployment_type = forms.CharField(required=False)
    branch = forms.CharField(required=False, strip=True)
    release = forms.CharField(required=False, strip=True)
    rebuild = forms.BooleanField(required=False)
    server_groups = forms.ModelMultipleChoiceField(ServerGroup.objects.all(), required=False)
    batches = forms.CharField(required=False, strip=True, max_length=200)
    max_failures = forms.IntegerField(required=False, min_value=0, max_value=10_000)
    confirm = forms.CharField(required=False, strip=True)

    def confirm_production(self, project: Project) -> bool:
        """Whether what may be launched by one click may go to ``project``; production wants its name to be typed."""
        if project.environment != Environment.PRODUCTION or self.cleaned_data["confirm"] == project.name:
            return True
        self.add_error("confirm", _("Type the name of the project to launch it in production: %s") % project.name)
        return False

    @staticmethod
    def chosen(query: QueryDict) -> dict[str, Any]:
        """What the address already chooses: ``?type=full&branch=v2&group=3&group=4``, ``?release=VERSION``."""
        names = ("branch", "release", "rebuild", "batches", "max_failures")
        values: dict[str, Any] = {name: query[name] for name in names if name in query}
        if "type" in query:
            values["deployment_type"] = query["type"]
        if "group" in query:
            values["server_groups"] = query.getlist("group")
        return values


class LogFilter(forms.Form):
    """Which lines of a log are shown; what is not understood does not filter."""

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
    def condition(self) -> Q:
        """What a line must be; empty where every line is shown."""
        chosen = self.cleaned_data
        condition = Q()
        if chosen.get("server"):
            condition &= Q(target=chosen["server"])
        if chosen.get("level"):
            levels = LogLine.Level.ERROR, LogLine.Level.WARNING
            condition &= Q(level__in=levels if chosen["level"] == "warning" else levels[:1])
        if chosen.get("stream"):
            condition &= Q(stream=chosen["stream"])
        if chosen.get("text"):
            condition &= Q(content__icontains=chosen["text"])
        return condition

    @property
    def query(self) -> str:
        """What is chosen, as the part of an address: begins with ``&``, or is empty."""
        chosen = {name: self.data[name] for name, value in self.cleaned_data.items() if value}
        return f"&{urlencode(chosen)}" if chosen else ""


class PackageForm(forms.Form):
    """A release that was built elsewhere."""

    package = forms.FileField(allow_empty_file=False, max_length=200, label=_("Package"))
    note = forms.CharField(required=False, max_length=500, label=_("What it is"))


class HistoryFilter(forms.Form):
    """Which deployments a list shows; what is not understood does not filter."""

    project = forms.ModelChoiceField(Project.objects.all(), required=False, empty_label=_("All projects"))
    type = forms.ChoiceField(choices=[("", _("All types")), *Deployment.Type.choices], required=False)
    status = forms.ChoiceField(
        choices=[("", _("Any status")), ("active", _("Running or waiting")), *Deployment.Status.choices],
        required=False,
    )

    def lookups(self) -> dict[str, Any]:
        """The filter as keyword arguments of a queryset."""
        self.is_valid()
        chosen = {name: value for name, value in self.cleaned_data.items() if value}
        if "type" in chosen:
            chosen["deployment_type"] = chosen.pop("type")
        if chosen.get("status") == "active":
            del chosen["status"]
            chosen["finished_at"] = None
        return chosen
