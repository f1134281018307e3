"""A deployment's plan: the project's configuration, frozen at launch and read back by the worker."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from projects.commands import expectation, service
from projects.commands.expectation import Live
from projects.commands.services.kind import Does, Kind, Where
from projects.commands.services.kinds import PROCESS, in_turn, kind_of, own_command
from projects.models import HealthCheck, Project, Variable
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


@dataclass(frozen=True)
class PlannedVariable:
    """A variable as it stood at launch; see `projects.models.Variable`."""

    name: str
    value: str
    is_secret: bool
    scope: str


@dataclass(frozen=True)
class PlannedService:
    """A service besides the main one as it stood at launch; see `projects.models.Service`."""

    kind: str
    name: str


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

    ``log_path`` and, in a restart-only deployment, ``deploy_path`` may be empty. Where no ``script`` on the server
    restarts the application, ``text`` does: the script that the project keeps, or the restart of its kind of service.
    ``does`` is how that is told, ``service`` what is restarted, ``is_kept`` whether the project keeps the text.
    """

    deploy_path: str
    script: str
    log_path: str
    text: str = ""
    does: str = ""
    service: str = ""
    is_kept: bool = False

    @property
    def script_is_in_release(self) -> bool:
        """Whether each release brings the script."""
        return bool(self.script) and self.script.startswith(f"{self.deploy_path}/current/")

    @property
    def label(self) -> str:
        """What restarts it, as it is told."""
        return self.script or self.does

    @property
    def place(self) -> str:
        """What only one deployment at a time works on."""
        return self.deploy_path or self.script or self.service


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
    service_kind: str = PROCESS
    service_name: str = ""
    services: tuple[PlannedService, ...] = ()
    restart_script: str = ""
    stop_script: str = ""
    start_script: str = ""
    # The commit that the branch led to, where the launch had to wait: no project has it.
    commit: str = ""

    @classmethod
    def of(cls, project: Project, groups: Sequence[ServerGroup]) -> "Plan":
        """The plan of a launch."""
        own = {"groups", "health_checks", "services", "variables", "commit"}
        return cls(
            **{field.name: getattr(project, field.name) for field in fields(cls) if field.name not in own},
            groups=members_of(groups),
            health_checks=tuple(Check.of(check) for check in project.health_checks.all()),
            services=tuple(PlannedService(row.kind, row.name) for row in project.services.all()),
            variables=tuple(
                PlannedVariable(row.name, row.value, row.is_secret, row.scope) for row in project.variables.all()
            ),
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
                "services": tuple(PlannedService(**row) for row in data.get("services", ())),
                "variables": tuple(PlannedVariable(**row) for row in data["variables"]),
            }
        )

    def variables_for(self, scope: str) -> dict[str, str]:
        """The variables of ``scope`` (build or deploy); one for this scope alone wins over one for both."""
        wanted = [Variable.Scope.BOTH, scope]
        rows = sorted((row for row in self.variables if row.scope in wanted), key=lambda row: wanted.index(row.scope))
        return {row.name: row.value for row in rows}

    @property
    def shared(self) -> list[str]:
        """The paths that are kept between releases; a folder may end in ``/``."""
        return shared_path_list(self.shared_paths)

    def secrets(self) -> list[str]:
        """The values that no log may show."""
        return [row.value for row in self.variables if row.is_secret]

    def script_for(self, deployment_type: str) -> str:
        """The script that restarts the application in this type of deployment, as the project names it.

        Empty where none does that lies on the servers. None of them stops it; they start it where nothing else does.
        """
        does = self.does(deployment_type)
        if does == Does.STOP or (does == Does.START and self._starts):
            return ""
        if deployment_type != "full" and self.restart_only_script_path:
            return self.restart_only_script_path
        return self.deploy_script_path

    def does(self, deployment_type: str) -> Does:
        """What this type of deployment does with the services."""
        if deployment_type in {Does.STOP, Does.START}:
            return Does(deployment_type)
        return Does.RELOAD if self.script_reloads else Does.RESTART

    @property
    def _starts(self) -> bool:
        """Whether something is there that only starts the services."""
        return bool(self.start_script or own_command(self._pairs, Does.START))

    def _kept_text(self, does: Does) -> tuple[str, str]:
        """The script that the project keeps for this, and the name of its field; both empty where there is none."""
        names = {Does.STOP: "stop_script", Does.START: "start_script" if self._starts else "restart_script"}
        name = names.get(does, "restart_script")
        text = str(getattr(self, name))
        return (text, name) if text else ("", "")

    def acts_by_kind(self, deployment_type: str) -> bool:
        """Whether it is done by the kinds of the services: there is no script, neither on the servers nor here."""
        return not self.script_for(deployment_type) and not self._kept_text(self.does(deployment_type))[0]

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        return [(it.kind, it.name) for it in self.all_services]

    @property
    def all_services(self) -> tuple[PlannedService, ...]:
        """The main service and the others."""
        return (PlannedService(self.service_kind, self.service_name), *self.services)

    @property
    def keepers(self) -> list[tuple[Kind, str]]:
        """Of each service that has a keeper what can be asked of it, and its name; the main one first."""
        found = ((kind_of(it.kind, it.name), it.name) for it in self.all_services)
        return [(kind, name) for kind, name in found if kind is not None]

    @property
    def where(self) -> Where:
        """Where the services are."""
        return Where(self.deploy_path.rstrip("/"), self.run_as)

    @property
    def main_service(self) -> str:
        """What is restarted, where no path says where it lies."""
        return f"{self.service_kind} {self.service_name or self.process_name or self.name}"

    def on(self, home: str, deployment_type: str) -> Location:
        """The paths of this type of deployment on a server whose login has this ``home``."""
        deploy_path = service.at_home(self.deploy_path, home).rstrip("/")
        log_path = service.at_home(self.log_path, home)
        does, script = self.does(deployment_type), self.script_for(deployment_type)
        if script:
            script = service.at_home(service.script_path(script, deploy_path), home)
            return Location(deploy_path, script, log_path)
        # What a restart would work on, too, is the same place.
        restart = "" if does in {Does.RESTART, Does.RELOAD} else self.script_for("restart_only")
        place = service.at_home(service.script_path(restart, deploy_path), home) if restart else self.main_service
        text, label = self._kept_text(does)
        if text:
            return Location(deploy_path, "", log_path, text, label, place, is_kept=True)
        text, label = self.own_text(deploy_path, dict.fromkeys(range(len(self.all_services)), does))
        return Location(deploy_path, "", log_path, text, label, place)

    def own_text(self, deploy_path: str, wanted: Mapping[int, Does]) -> tuple[str, str]:
        """What the kinds of services do, one after the other until one fails, and how that is told.

        ``wanted`` is what is done with each, by its number.
        """
        where = Where(deploy_path, self.run_as)
        texts, told = [], []
        for number in in_turn(sorted(wanted), next(iter(wanted.values()), Does.RESTART)):
            it, does = self.all_services[number], wanted[number]
            kind = kind_of(it.kind, it.name)
            if kind is None or not kind.acts:
                return "", ""
            texts.append(f"(\n{kind.act(it.name, where, does)})")
            told.append(kind.command(it.name, does))
        return " &&\n".join(texts), " && ".join(told)
