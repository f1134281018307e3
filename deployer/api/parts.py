"""What pages edit as rows of a project: variables, services, health checks, steps; and the variables of sets."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Model

from deployer.api.columns import Columns
from deployer.api.filling import keep_row
from deployer.api.frame import Id, Name, row_of
from deployer.api.nouns import Filter, Noun, register
from people.models import User
from people.rights import insist
from people.roles import Action
from projects.forms import STEP_FIELDS, HealthChecks, Services, Steps
from projects.models import (
    AttachedSet,
    HealthCheck,
    Project,
    Service,
    SetVariable,
    Step,
    Template,
    Variable,
    VariableSet,
)
from projects.steps import Launched
from projects.templates import spread
from projects.variable_forms import AttachedSets, SetVariables, Variables

TAG = "parts of projects"
_WHOLE: dict[str, Any] = {"project": Project, "template": Template, "variable_set": VariableSet}


class Part:
    """A kind of rows that belong to a project, or to a set of variables, and the rows of their page."""

    def __init__(
        self,
        columns: Columns,
        formset: Any,
        path: str,
        one: str,
        *,
        of: str,
        needed: tuple[str, ...],
        shown: Mapping[str, Any],
        about: str,
        asks_user: bool = False,
        tag: str = TAG,
    ) -> None:
        self.columns, self.formset, self.of, self.asks_user = columns, formset, of, asks_user
        self.outside = {inside: name for name, inside in columns.inside.items()}
        title = "".join(word.capitalize() for word in one.split())
        by_name = {"name": Filter(Name, "name")} if "name" in columns.fields else {}
        whole: dict[str, Any] = {f"{of}_id": (Id, ...)}
        told: dict[str, Any] = {f"{of}_id": (int, ...)}
        register(
            Noun(
                path=path,
                one=one,
                tag=tag,
                about=about,
                shape=columns.shape(f"Stored{title}Shape", f"A {one} as it is stored.", shown=shown, **told),
                rows=self.rows,
                told=self.told,
                filters={f"{of}_id": Filter(Id, of), **by_name},
                new=columns.new(f"{title}Input", f"A new {one}.", needed=needed, **whole),
                make=self.make,
                change=columns.change(f"{title}Change", f"What is to be another in a {one}."),
                edit=self.edit,
                remove=self.remove,
            )
        )

    def rows(self, user: User) -> Any:
        """Those of the projects, or sets, that ``user`` sees."""
        near = _WHOLE[self.of].objects.reached_by(user).order_by()
        rows = self.columns.model._base_manager.filter(**{f"{self.of}__in": near})
        return rows.order_by(self.of, *(self.columns.model._meta.ordering or ["pk"]), "pk")

    def told(self, row: Any, _user: User) -> Mapping[str, Any]:
        """A row; the value of a secret is not told."""
        hidden = {"value": None} if getattr(row, "is_secret", False) else {}
        return self.columns.told(row, **{f"{self.of}_id": getattr(row, f"{self.of}_id")}) | hidden

    def make(self, user: User, values: dict[str, Any]) -> Any:
        """A new row of a project that ``user`` edits."""
        number = values.pop(f"{self.of}_id")
        whole = row_of(_WHOLE[self.of].objects.reached_by(user), number, f"{self.of}_id")
        return self._kept(user, whole, None, values)

    def edit(self, user: User, row: Any, values: dict[str, Any]) -> Any:
        """A row as it is to be."""
        return self._kept(user, getattr(row, self.of), row.pk, values)

    def remove(self, user: User, row: Any) -> None:
        """The row is no more."""
        self._kept(user, getattr(row, self.of), row.pk, None)

    def _kept(self, user: User, whole: Any, pk: int | None, values: dict[str, Any] | None) -> Any:
        insist(user, Action.EDIT, whole)
        if isinstance(whole, Project):
            whole.insist_on_current()
        if values is not None:
            values = {self.columns.inside[name]: value for name, value in values.items()}
        keep = partial(keep_row, partial(self._drawn, user, whole), whole, pk, values, self.outside)
        if not isinstance(whole, Template):
            return keep()
        with transaction.atomic():
            row = keep()
            spread(whole)
        return row

    def _drawn(self, user: User, whole: Model, data: Mapping[str, Any] | None) -> Any:
        return self.formset(data, instance=whole, **({"user": user} if self.asks_user else {}))


_VARIABLE: dict[str, Any] = {
    "name": "PORT",
    "value": "8080",
    "is_secret": False,
    "scope": "both",
    "value_from": "",
}
VARIABLES = Part(
    Columns(
        Variable,
        (*("name", "value", "is_secret", "scope", "server_group", "server", "is_prompt", "choices", "value_from"),),
        hides=("value",),
    ),
    Variables,
    "variables",
    "variable",
    of="project",
    needed=("name",),
    shown={
        "id": 9,
        **_VARIABLE,
        "server_group_id": None,
        "server_id": None,
        "is_prompt": False,
        "choices": "",
        "project_id": 1,
    },
    about="Variables as they are stored, by project and name; what counts where is told by those of a project.",
    asks_user=True,
)
SET_VARIABLES = Part(
    Columns(SetVariable, ("name", "value", "is_secret", "scope", "value_from"), hides=("value",)),
    SetVariables,
    "set-variables",
    "variable of a set",
    of="variable_set",
    needed=("name",),
    shown={"id": 4, **_VARIABLE, "variable_set_id": 1},
    about="The variables of sets.",
)
ATTACHED_SETS = Part(
    Columns(AttachedSet, ("variable_set", "position")),
    AttachedSets,
    "attached-sets",
    "attached set",
    of="project",
    needed=("variable_set_id",),
    shown={"id": 2, "variable_set_id": 1, "position": 0, "project_id": 1},
    about="The sets of variables that projects have, in their order.",
    asks_user=True,
)
CHECK: dict[str, Any] = {
    "id": 5,
    "kind": "http",
    "target": "http://127.0.0.1:8080/up",
    "expect": "",
    "expect_header": "",
    "host_header": "",
    "retries": 5,
    "interval": 2,
    "timeout": 5,
    "stable_for": 0,
    "required": True,
}
STEP: dict[str, Any] = {
    "id": 6,
    "name": "migrate",
    "moment": "before_all",
    "kind": "server",
    "position": 0,
    "when": "",
    "types": ["full"],
    "script": "python manage.py migrate --no-input",
    "undone_by": "",
    "run_as": "",
    "timeout": 600,
    "required": True,
}
SERVICES = Part(
    Columns(Service, ("kind", "name", "position")),
    Services,
    "services",
    "service",
    of="project",
    needed=("kind", "name"),
    shown={"id": 3, "kind": "systemd", "name": "shop-worker.service", "position": 0, "project_id": 1},
    about="The services of projects besides the main one of each.",
)
HEALTH_CHECKS = Part(
    Columns(
        HealthCheck,
        (
            *("kind", "target", "expect", "expect_header", "host_header"),
            *("retries", "interval", "timeout", "stable_for", "required"),
        ),
    ),
    HealthChecks,
    "health-checks",
    "health check",
    of="project",
    needed=("kind", "target"),
    shown={**CHECK, "project_id": 1},
    about="The health checks of projects.",
)
STEPS = Part(
    Columns(Step, STEP_FIELDS, types={"types": list[Launched]}),
    Steps,
    "steps",
    "step",
    of="project",
    needed=("name", "moment", "script"),
    shown={**STEP, "project_id": 1},
    about="The steps of projects, in their order.",
)
