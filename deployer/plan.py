"""A deployment's plan: the project's configuration, frozen at launch and read back by the worker."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

from projects.commands import expectation, service
from projects.commands.expectation import Live
from projects.effective import Given, Layer, Value, Values
from projects.given import given_to
from projects.models import HealthCheck, Project
from projects.validators import shared_path_list
from servers.models import ServerGroup


@dataclass(frozen=True)
class Check:
    """A health check as it stood at launch; see `projects.models.HealthCheck`."""

    kind: str
    target: str
    expect: str
    host_header: str
    retries: int
    interval: int
    timeout: int
    stable_for: int
    required: bool
    # Plans that were frozen before this was known lack it.
    expect_header: str = ""

    @classmethod
    def of(cls, check: HealthCheck) -> "Check":
        """A health check as it stands now."""
        return cls(**{field.name: getattr(check, field.name) for field in fields(cls)})

    @property
    def label(self) -> str:
        """A short name of the check."""
        return f"{self.kind} {self.target}"

    def confirmed(self, live: Live) -> str:
        """Its name, and what it has shown of the release that is ``live``, once the answer was as expected."""
        shown = expectation.confirmed(self.placeholders, live)
        return f"{self.label} {shown}" if shown else self.label

    @property
    def placeholders(self) -> frozenset[str]:
        """What the answer must name of the release that is live, if anything."""
        if self.kind not in HealthCheck.READ:
            return frozenset()
        return expectation.placeholders(self.expect, self.expect_header)


def members_of(groups: Sequence[ServerGroup]) -> dict[str, list[int]]:
    """The ids of the servers of each group, by its name, asked in one query."""
    rows = ServerGroup.servers.through.objects.filter(servergroup__in=groups).order_by("server__name")
    members: dict[int, list[int]] = {group.pk: [] for group in groups}
    for group, server in rows.values_list("servergroup", "server"):
        members[group].append(server)
    return {group.name: members[group.pk] for group in groups}


class Part(NamedTuple):
    """So many servers of all of a group."""

    group: str
    number: int
    all: int


def parts_of(groups: Mapping[str, Collection[int]], servers: Collection[int]) -> list[Part]:
    """Those of ``groups``, by the ids of their members, of which not all are among ``servers``."""
    chosen = {*servers}
    found = [Part(name, len(chosen.intersection(members)), len(members)) for name, members in groups.items()]
    return [part for part in found if part.number < part.all]


@dataclass(frozen=True)
class Location:
    """Where a plan is carried out on one server: absolute paths, the login's home filled in.

    ``log_path`` and, in a restart-only deployment, ``deploy_path`` may be empty.
    """

    deploy_path: str
    script: str
    log_path: str

    @property
    def script_is_in_release(self) -> bool:
        """Whether each release brings the script."""
        return self.script.startswith(f"{self.deploy_path}/current/")


@dataclass(frozen=True)
class Plan:
    """The plan that a worker carries out. Editing the project after the launch does not change it.

    ``groups`` are the ids of the servers of each chosen group. ``variables`` count everywhere, ``layers`` are those of
    groups and servers, ``answers`` what was answered at launch: `values` says which of them counts where.
    """

    name: str
    environment: str
    project_type: str
    git_url: str
    auto_install: bool
    install_script: str
    build_script: str
    output_dir: str
    deploy_path: str
    deploy_script_path: str
    restart_only_script_path: str
    process_name: str
    script_reloads: bool
    log_path: str
    script_timeout: int
    batches: str
    max_failures: int
    pause_after_first: bool
    may_stop_last_healthy: bool
    auto_rollback: bool
    keep_releases: int
    git_credential_id: int | None
    groups: dict[str, list[int]]
    health_checks: tuple[Check, ...]
    variables: tuple[Value, ...]
    # Plans that were frozen before these were known lack them.
    shared_paths: str = ""
    run_as: str = ""
    watch_for: int = 1
    submodules: bool = False
    lfs: bool = False
    keeps_database_files: bool = False
    # The commit that the branch led to, where the launch had to wait: no project has it.
    commit: str = ""
    layers: tuple[Layer, ...] = ()
    answers: tuple[Value, ...] = ()
    # The deployment whose values these are, where they are not the project's own of that day.
    values_of: int | None = None

    @classmethod
    def of(
        cls, project: Project, groups: Sequence[ServerGroup], given: Given | None = None, answers: Sequence[Value] = ()
    ) -> "Plan":
        """The plan of a launch; without groups, one that knows the values of every server.

        ``given`` is what the project's variables are, where that was read before.
        """
        own = {"groups", "health_checks", "variables", "layers", "answers", "values_of", "commit"}
        members = members_of(groups)
        given = given or given_to(project)
        values = given.values({pk for ids in members.values() for pk in ids} if groups else given.placed, answers)
        return cls(
            **{field.name: getattr(project, field.name) for field in fields(cls) if field.name not in own},
            groups=members,
            health_checks=tuple(Check.of(check) for check in project.health_checks.all()),
            variables=values.common,
            layers=values.layers,
            answers=values.answers,
        )

    def to_json(self) -> dict[str, Any]:
        """The form that a deployment stores."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        """Read back what `to_json` gave."""
        return cls(
            **data
            | {
                "health_checks": tuple(Check(**row) for row in data["health_checks"]),
                "variables": tuple(Value(**row) for row in data["variables"]),
                "layers": tuple(Layer.from_json(row) for row in data.get("layers", ())),
                "answers": tuple(Value(**row) for row in data.get("answers", ())),
            }
        )

    @cached_property
    def values(self) -> Values:
        """The values of its variables, by what gives them."""
        return Values(self.variables, self.layers, self.answers)

    def with_values_of(self, number: int, other: "Plan") -> "Plan":
        """It with the variables and answers of ``other``, the plan of the deployment of this number."""
        return replace(self, variables=other.variables, layers=other.layers, answers=other.answers, values_of=number)

    def variables_for(
        self, scope: str, server: int | None = None, outside: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The variables of ``scope`` (build or deploy), and for scripts those of the server with this id.

        ``outside`` has the values that are not in the plan, by their sources; without them they are empty.
        """
        had = outside or {}
        found = ((name, each.value) for name, each in self.values.on(server, scope).items())
        return {name: had.get(each.source, "") if each.source else each.value for name, each in found}

    @property
    def shared(self) -> list[str]:
        """The paths that are kept between releases; a folder may end in ``/``."""
        return shared_path_list(self.shared_paths)

    def secrets(self) -> list[str]:
        """The values that no log may show."""
        return list(dict.fromkeys(each.value for each in self.values.every() if each.is_secret))

    def script_for(self, deployment_type: str) -> str:
        """The script that restarts the application in this type of deployment, as the project names it."""
        if deployment_type == "restart_only" and self.restart_only_script_path:
            return self.restart_only_script_path
        return self.deploy_script_path

    def on(self, home: str, deployment_type: str) -> Location:
        """The paths of this type of deployment on a server whose login has this ``home``."""
        deploy_path = service.at_home(self.deploy_path, home).rstrip("/")
        script = service.script_path(self.script_for(deployment_type), deploy_path)
        return Location(deploy_path, service.at_home(script, home), service.at_home(self.log_path, home))
