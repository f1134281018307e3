"""Forms of projects, their services, health checks and steps; `projects.variable_forms` has those of variables."""

from collections.abc import Iterator
from typing import Any, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.forms import inlineformset_factory
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pages.forms import MultilineField, PickedField, PickedRows, PickingForm, dress
from people.access import choices
from people.record import saving
from people.recorded_forms import ComparedForm, RecordedRows
from people.rights import Person, may
from people.roles import Action, Place
from projects.commands.services.kind import Does
from projects.commands.services.kinds import own_command
from projects.given import problems_of, strange_sets
from projects.models import GivenVariable, HealthCheck, Project, Service, Step, Template
from projects.ready_steps import READY_STEPS
from projects.steps import Launched
from projects.templates import follow
from servers.belonging import strange_groups
from servers.forms import CredentialChoice
from servers.models import Credential, Environment, ServerGroup

Part = TypeVar("Part", bound=models.Model)
Whole = TypeVar("Whole", bound=models.Model)


def on_page(column: Any, **options: Any) -> forms.Field | None:
    """The field of a page's form for a model's column: as the stylesheet wants it, with a server's line ends."""
    if isinstance(column, models.TextField):
        size = {"rows": 1 if column.name == "value" else 3, "spellcheck": "false"}
        options |= {"form_class": MultilineField, "widget": forms.Textarea(attrs=size)}
        if column.name == "value":
            options["strip"] = False
    if column.name == "git_credential":
        options["form_class"] = CredentialChoice
    if column.name == "server_groups":
        options |= {"form_class": PickedField, "widget": PickedRows}
    field: forms.Field | None = column.formfield(**options)
    if field is not None:
        dress(field, mono=column.name not in _PROSE or issubclass(column.model, GivenVariable))
    return field


#: What people read, and not programs.
_PROSE = {
    *("name", "description", "environment", "project_type", "git_credential", "kind", "scope", "service_kind"),
    *("moment", "when", "types", "template"),
}


class StepForm(forms.ModelForm[Step]):
    """A step; its launches are boxes to tick."""

    types = forms.MultipleChoiceField(
        label=Step._meta.get_field("types").verbose_name,
        help_text=Step._meta.get_field("types").help_text,
        choices=Launched,
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )


#: The headings of a project's form, here and in the admin, and the fields below each.
SECTIONS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    ("", ("name", "description", "environment", "project_type", "template")),
    (gettext_lazy("Where it belongs"), ("server_groups", "may_launch_elsewhere", "name_typed")),
    (gettext_lazy("Code"), ("git_url", "git_credential", "default_branch", "submodules", "lfs")),
    (
        gettext_lazy("Build"),
        ("auto_install", "install_script", "build_script", "output_dir", "keeps_database_files"),
    ),
    (
        gettext_lazy("On the servers"),
        (
            "deploy_path",
            "deploy_script_path",
            "restart_only_script_path",
            "restart_script",
            "stop_script",
            "start_script",
            "run_as",
            "shared_paths",
            "service_kind",
            "service_name",
            "process_name",
            "script_reloads",
            "watch_for",
            "log_path",
            "more_logs",
            "script_timeout",
        ),
    ),
    (
        gettext_lazy("Rollout"),
        (
            *("batches", "max_failures", "pause_after_first", "pause_after", "pause_for", "may_stop_last_healthy"),
            *("auto_rollback", "guided_failure", "guided_for", "keep_releases"),
        ),
    ),
    (
        gettext_lazy("History"),
        ("keep_logs_for", "keep_evidence_for", "keep_deployments_for", "keep_deployments"),
    ),
)


class BoundProjectForm(ComparedForm[Project]):
    """A project as ``user``, who fills in the form, may have it.

    Who may not edit its git credential can neither choose it nor have it sent to a host that it is not for yet. Only
    environments and server groups that they may edit are given to it or taken from it.
    """

    user: Person

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.former = (self.instance.git_url, self.instance.git_credential_id)

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # a hook of Django's that its types lack
        if self.errors:
            return
        self._check_place()
        self._check_template()
        self._check_groups()
        self._check_login()

    def _check_place(self) -> None:
        """It has to be theirs to edit where it will be, too."""
        if not may(self.user, Action.EDIT, Place(self.instance.environment, self.instance.pk)):
            self._refuse("environment", _("You have no right to edit projects there."))
        if strange := strange_sets(self.instance):
            told = _("Variable sets of another environment are attached to it: %s. Detach them first.")
            self._refuse("environment", told % ", ".join(map(str, strange)))

    def _check_template(self) -> None:
        """It follows none that they do not see."""
        template = self.instance.template
        if template is not None and "template" in self.changed_data and not may(self.user, Action.SEE, template):
            self._refuse("template", _("You have no right to see this template."))

    def _check_groups(self) -> None:
        if "server_groups" not in self.cleaned_data:
            return
        chosen = self.cleaned_data["server_groups"]
        if strange := strange_groups(chosen, self.instance.environment):
            names = ", ".join(map(str, strange))
            self._refuse("server_groups", _("Not of the environment of the project: %s. Choose other groups.") % names)
            return
        before = {*self.instance.server_groups.all()} if self.instance.pk else set[ServerGroup]()
        for group in sorted(before ^ {*chosen}, key=str):
            if not may(self.user, Action.EDIT, group):
                self._refuse("server_groups", _("You have no right to edit the group “%s”.") % group)
        if before != {*chosen} and self.instance.pk:
            for _row, why in problems_of(self.instance, groups=[*chosen]):
                self._refuse("server_groups", why)

    def _check_login(self) -> None:
        it, (former_url, former_credential) = self.instance, self.former
        login, purpose = it.git_credential, Credential.Purpose.GIT
        if login is None:
            return
        if not login.serves(purpose):
            self._refuse("git_credential", _("The credential “%s” is not for git.") % login)
        elif self._may_bind():
            return
        elif former_credential != it.git_credential_id:
            self._refuse("git_credential", _("Only somebody who may edit the credential chooses it for a project."))
        elif former_url != it.git_url and it.git_endpoint is not None and not login.is_for(it.git_endpoint, purpose):
            self._refuse(
                "git_url",
                _("The credential would be sent to another host: ask somebody who may edit the credential."),
            )

    def _may_bind(self) -> bool:
        """Whether they decide where its git credential is sent."""
        login = self.instance.git_credential
        return login is not None and may(self.user, Action.EDIT, login)

    def _refuse(self, field: str, why: str) -> None:
        self.add_error(field if field in self.fields else None, why)

    def bind(self) -> None:
        """Let the git credential of the saved project be sent to its host, if the user may."""
        if self._may_bind():
            self.instance.bind_git_credential()


class ProjectForm(PickingForm, BoundProjectForm):
    """A project as somebody edits it on a page."""

    class Meta:
        model = Project
        fields: tuple[str, ...] = tuple(name for _title, names in SECTIONS for name in names)
        formfield_callback = on_page

    def __init__(self, *args: Any, user: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        number = self.instance.pk
        if "environment" in self.fields:
            places: Any = self.fields["environment"]
            places.choices = [it for it in Environment.choices if may(user, Action.EDIT, Place(it[0], number))]
        if "git_credential" in self.fields:
            own = self.instance.git_credential_id
            known = choices(user, Credential.objects.all(), Action.EDIT, [own] if own else [])
            field: Any = self.fields["git_credential"]
            field.queryset, field.empty_label = known.defer(*Credential.SECRETS), _("None: everybody may read it")
            field.settle()
        if "template" in self.fields:
            offered: Any = self.fields["template"]
            offered.queryset = choices(user, Template.objects, Action.SEE, [self.instance.template_id])
        if "server_groups" in self.fields:
            present = [*self.instance.server_groups.values_list("pk", flat=True)] if number else []
            groups: Any = self.fields["server_groups"]
            groups.queryset = choices(user, ServerGroup.objects, Action.EDIT, present)

    def sections(self) -> Iterator[tuple[str, list[forms.BoundField]]]:
        """Each heading with its fields, in the order of the page."""
        for title, names in SECTIONS:
            yield str(title), [self[name] for name in names if name in self.fields]

    def save(self, commit: bool = True) -> Project:
        if not commit:
            return super().save(commit)
        with saving(self.instance):
            project: Project = super().save(commit)
            if "template" in self.changed_data:
                follow(project)
            self.bind()
        return project


class StartForm(ProjectForm):
    """The first step of a new project: what it is called and where its code is."""

    class Meta(ProjectForm.Meta):
        fields = ("name", "environment", "git_url", "git_credential")


class GuidedForm(ProjectForm):
    """The second step, with the first: what was proposed, as somebody has corrected it."""

    class Meta(ProjectForm.Meta):
        fields = (
            *StartForm.Meta.fields,
            *("project_type", "default_branch", "submodules", "lfs"),
            *("auto_install", "install_script", "build_script", "output_dir"),
            *("deploy_path", "shared_paths", "deploy_script_path", "restart_script"),
            *("service_kind", "service_name", "process_name", "watch_for"),
        )

    check_url = forms.CharField(
        label=gettext_lazy("Address of the application"),
        required=False,
        help_text=gettext_lazy("A URL as seen from the server. After each restart it must answer there."),
    )
    names_release = forms.BooleanField(
        label=gettext_lazy("Its header X-Release must name the release"),
        required=False,
        help_text=gettext_lazy(
            "The strongest proof that the new code answers. The application must send the header: see the example."
        ),
    )

    ready_steps = forms.MultipleChoiceField(
        label=gettext_lazy("Ready-made steps"),
        choices=[(each.key, each.title) for each in READY_STEPS],
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
        required=False,
        help_text=gettext_lazy(
            "Scripts that run on the servers around the switch. They become the project’s own: change them, add others."
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["deploy_path"].required = bool(self["git_url"].value())
        for name in ("watch_for", "service_kind"):
            self.fields[name].required = False  # the model has a default
        self.check: HealthCheck | None = None
        for name in ("check_url", "names_release"):
            dress(self.fields[name], mono=True)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        url, named = cleaned.get("check_url"), cleaned.get("names_release")
        if url:
            header = "X-Release: {release}" if named else ""
            self.check = HealthCheck(kind=HealthCheck.Kind.HTTP, target=url, expect_header=header)
            try:
                self.check.full_clean(exclude=["project"])
            except ValidationError as error:
                self.add_error("check_url", error.messages)
        elif named:
            self.add_error("check_url", _("Enter the address that names the release."))
        service = (cleaned.get("service_kind") or Project.ServiceKind.PROCESS, cleaned.get("service_name") or "")
        is_restarted = cleaned.get("deploy_script_path") or cleaned.get("restart_script")
        if not is_restarted and not own_command([service], Does.RESTART):
            missing = self.fields["deploy_script_path"].error_messages["required"]  # nothing can be launched without it
            self.add_error("deploy_script_path", missing)
        if named and not cleaned.get("deploy_path"):
            self.add_error("names_release", _("Without a deploy path there are no releases."))
        return cleaned

    def _steps(self) -> Iterator[Step]:
        """Those that were ticked, in the order in which they are offered."""
        ticked = [each for each in READY_STEPS if each.key in self.cleaned_data["ready_steps"]]
        rows = [values for each in ticked for values in each.steps]
        for position, values in enumerate(rows, 1):
            is_taken = any(row["name"] == values["name"] for row in rows[: position - 1])
            name = f"{values['name']} {position}" if is_taken else values["name"]
            yield Step(project=self.instance, position=position, **{**values, "name": name})

    def save(self, commit: bool = True) -> Project:
        """The project, with the ticked steps, and with the health check if an address was given."""
        with transaction.atomic():
            project = super().save(commit)
            if self.check is not None:
                self.check.project = project
            for row in (*self._steps(), *filter(None, [self.check])):
                with saving(row):
                    row.save()
        return project


class CopyForm(ProjectForm):
    """The values that a copy does not share with its original."""

    class Meta(ProjectForm.Meta):
        fields = ("name", "environment")


def own_rows(rows: Any) -> Any:
    """Those of a project's parts that do not come from its template."""
    is_part = any(field.name == "from_template" for field in rows.model._meta.fields)
    return rows.filter(from_template=False) if is_part else rows


class RowsFormSet(RecordedRows[Part, Whole]):
    """Rows of a project or of a set: one empty row is offered, and each that is there has a box to remove it.

    Those that a project has from its template are the template's to change.
    """

    def get_queryset(self) -> Any:
        if not hasattr(self, "_own"):
            self._own = own_rows(super().get_queryset())
        return self._own

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        for field in form.fields.values():
            dress(field, mono=True)


CHECK_FIELDS = (
    *("kind", "target", "expect", "expect_header", "host_header"),
    *("retries", "interval", "timeout", "stable_for", "required"),
)
#: In the order of a row's boxes.
STEP_FIELDS = (
    *("name", "moment", "kind", "position", "when", "types"),
    *("script", "undone_by", "run_as", "timeout", "required"),
)
HealthChecks = inlineformset_factory(
    Project,
    HealthCheck,
    formset=RowsFormSet,
    fields=CHECK_FIELDS,
    formfield_callback=on_page,
    extra=1,
    can_delete_extra=False,
)
Services = inlineformset_factory(
    Project,
    Service,
    formset=RowsFormSet,
    fields=("kind", "name", "position"),
    formfield_callback=on_page,
    extra=1,
    can_delete_extra=False,
)
Steps = inlineformset_factory(
    Project,
    Step,
    form=StepForm,
    formset=RowsFormSet,
    fields=STEP_FIELDS,
    formfield_callback=on_page,
    extra=1,
    can_delete_extra=False,
)
