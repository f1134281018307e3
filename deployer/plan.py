"""A deployment's plan: the project's configuration, frozen at launch and read back by the worker."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from projects.commands import expectation, service
from projects.commands.expectation import Live
from projects.models import HealthCheck, Project, Step, Variable
from projects.steps import USUAL_TYPES, USUAL_WHEN, Moment, When
from projects.validators import parse_pauses, shared_path_list
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


@dataclass(frozen=True)
class PlannedVariable:
    """A variable as it stood at launch; see `projects.models.Variable`."""

    name: str
    value: str
    is_secret: bool
    scope: str


@dataclass(frozen=True)
class PlannedStep:
    """A step as it stood at launch; see `projects.steps.Step`. ``types`` and ``when`` are what holds, said or usual."""

    name: str
    moment: str
    when: str
    types: tuple[str, ...]
    script: str
    undone_by: str
    run_as: str
    timeout: int
    required: bool

    @classmethod
    def of(cls, step: Step) -> "PlannedStep":
        """A step as it stands now."""
        said = {field.name: getattr(step, field.name) for field in fields(cls)}
        types = tuple(step.types) or USUAL_TYPES[step.moment]
        return cls(**said | {"types": types, "when": step.when or USUAL_WHEN.get(step.moment, "")})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PlannedStep":
        """Read back what a plan stores."""
        return cls(**data | {"types": tuple(data["types"])})

    @property
    def label(self) -> str:
        """Its moment and its name."""
        return f"{Moment(self.moment).label}: {self.name}"

    @property
    def fingerprint(self) -> str:
        """That of its text: a step that was changed is another one."""
        return hashlib.sha256(f"{self.run_as}\0{self.script}".encode()).hexdigest()

    def follows(self, *, success: bool) -> bool:
        """Whether it runs after such an end."""
        return self.when == When.ALWAYS or (self.when == When.SUCCESS) == success


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

    ``groups`` are the ids of the servers of each chosen group.
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
    variables: tuple[PlannedVariable, ...]
    # Plans that were frozen before these were known lack them.
    shared_paths: str = ""
    run_as: str = ""
    watch_for: int = 1
    submodules: bool = False
    lfs: bool = False
    keeps_database_files: bool = False
    steps: tuple[PlannedStep, ...] = ()
    # The commit that the branch led to, where the launch had to wait: no project has it.
    commit: str = ""
    # Whether the steps after are run, and nothing else, on servers that are drained: no project says so.
    puts_back: bool = False
    pause_after: str = ""
    pause_for: int = 0
    guided_failure: bool = False
    guided_for: int = 60

    @classmethod
    def of(cls, project: Project, groups: Sequence[ServerGroup]) -> "Plan":
        """The plan of a launch."""
        own = {"groups", "health_checks", "variables", "steps", "commit", "puts_back"}
        return cls(
            **{field.name: getattr(project, field.name) for field in fields(cls) if field.name not in own},
            groups=members_of(groups),
            health_checks=tuple(Check.of(check) for check in project.health_checks.all()),
            variables=tuple(
                PlannedVariable(row.name, row.value, row.is_secret, row.scope) for row in project.variables.all()
            ),
            steps=tuple(map(PlannedStep.of, project.steps.in_order())),
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
                "variables": tuple(PlannedVariable(**row) for row in data["variables"]),
                "steps": tuple(map(PlannedStep.from_json, data.get("steps", ()))),
            }
        )

    def pauses_after(self, batch: int) -> bool:
        """Whether it waits behind the batch of that number."""
        batches = parse_pauses(self.pause_after or ("1" if self.pause_after_first else ""))
        return batches is None or batch in batches

    def variables_for(self, scope: str) -> dict[str, str]:
        """The variables of ``scope`` (build or deploy); one for this scope alone wins over one for both."""
        wanted = [Variable.Scope.BOTH, scope]
        rows = sorted((row for row in self.variables if row.scope in wanted), key=lambda row: wanted.index(row.scope))
        return {row.name: row.value for row in rows}

    def steps_at(self, moment: str, launched: str) -> list[PlannedStep]:
        """The steps at a moment of such a launch, in the order in which they run."""
        return [step for step in self.steps if step.moment == moment and launched in step.types]

    @property
    def users_of_steps(self) -> list[str]:
        """The other users that steps run as."""
        return sorted({step.run_as for step in self.steps} - {"", self.run_as})

    @property
    def shared(self) -> list[str]:
        """The paths that are kept between releases; a folder may end in ``/``."""
        return shared_path_list(self.shared_paths)

    def secrets(self) -> list[str]:
        """The values that no log may show."""
        return [row.value for row in self.variables if row.is_secret]

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
