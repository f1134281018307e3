"""A deployment's plan: the project's configuration, frozen at launch and read back by the worker."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

from projects.commands import expectation, service
from projects.commands.expectation import Live
from projects.commands.services.kind import Does, Kind, Where
from projects.commands.services.kinds import PROCESS, in_turn, kind_of, own_command
from projects.effective import Given, Layer, Value, Values
from projects.frozen import read_back
from projects.given import counting_groups, given_to
from projects.models import ConfigFile, HealthCheck, Project, Step
from projects.steps import USUAL_TYPES, USUAL_WHEN, StepKind, When, step_label
from projects.validators import parse_pauses, shared_path_list
from servers.fields import is_unreadable
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
class PlannedService:
    """A service besides the main one as it stood at launch; see `projects.models.Service`."""

    kind: str
    name: str


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
    # Plans that were frozen before this was known lack it.
    kind: str = StepKind.SERVER

    @classmethod
    def of(cls, step: Step) -> "PlannedStep":
        """A step as it stands now."""
        said = {field.name: getattr(step, field.name) for field in fields(cls)}
        types = tuple(step.types) or USUAL_TYPES[step.moment]
        return cls(**said | {"types": types, "when": step.when or USUAL_WHEN.get(step.moment, "")})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PlannedStep":
        """Read back what a plan stores."""
        return read_back(cls, data | {"types": tuple(data["types"])})

    @property
    def label(self) -> str:
        """Its moment and its name, and that it runs on the platform."""
        return step_label(self.moment, self.name, is_on_platform=self.is_on_platform)

    @property
    def is_on_platform(self) -> bool:
        """Whether it runs on this machine, and on no server."""
        return self.kind == StepKind.PLATFORM

    @property
    def fingerprint(self) -> str:
        """That of its text: a step that was changed is another one."""
        place = "platform\0" if self.is_on_platform else ""
        return hashlib.sha256(f"{place}{self.run_as}\0{self.script}".encode()).hexdigest()

    def follows(self, *, success: bool) -> bool:
        """Whether it runs after such an end."""
        return self.when == When.ALWAYS or (self.when == When.SUCCESS) == success


@dataclass(frozen=True)
class PlannedFile:
    """A config file as it stood at launch; see `projects.models.ConfigFile`.

    ``place`` names the group or the server that it is for, ``servers`` are the ids of those servers: none where it is
    for all. Of several of one path, that with the highest ``rank`` is taken.
    """

    path: str
    content: str
    is_secret: bool
    is_template: bool
    check: str
    mode: str
    owner: str
    place: str = ""
    servers: tuple[int, ...] | None = None
    rank: int = 0

    @classmethod
    def of(cls, row: ConfigFile, members: Mapping[int, Collection[int]]) -> "PlannedFile":
        """A config file as it stands now; ``members`` are the servers of each group, by their ids."""
        servers: Collection[int] | None = None
        if row.server_id is not None:
            servers = (row.server_id,)
        elif row.server_group_id is not None:
            servers = members.get(row.server_group_id, ())
        return cls(
            row.path,
            row.content,
            row.is_secret,
            row.is_template,
            row.check_command,
            row.mode,
            row.owner,
            row.place,
            None if servers is None else tuple(sorted(servers)),
            2 if row.server_id is not None else int(row.server_group_id is not None),
        )

    @property
    def is_in_release(self) -> bool:
        """Whether each release has its own."""
        return not self.path.startswith(("/", "~/"))

    @property
    def label(self) -> str:
        """Its path, and the place that it is for where that is not every server."""
        return f"{self.path} ({self.place})" if self.place else self.path


def planned_files(project: Project) -> tuple[PlannedFile, ...]:
    """The config files of a project as they stand now, with the groups as they are now."""
    rows = list(project.config_files.select_related("server_group", "server"))
    groups = [row.server_group_id for row in rows if row.server_group_id is not None]
    members: dict[int, list[int]] = {}
    if groups:
        links = ServerGroup.servers.through.objects.filter(servergroup__in=groups)
        for group, server in links.values_list("servergroup", "server"):
            members.setdefault(group, []).append(server)
    return tuple(PlannedFile.of(row, members) for row in rows)


def groups_by_server(project: Project) -> dict[str, list[str]]:
    """The names of the groups that each server stands in, by its id as text: of the project's own groups.

    Where the project has none, of all groups of its environment: it does not depend on what a launch chooses.
    """
    groups = counting_groups(project).filter(environment=project.environment)
    links = ServerGroup.servers.through.objects.filter(servergroup__in=groups)
    found: dict[str, list[str]] = {}
    for server, name in links.order_by("servergroup__name").values_list("server", "servergroup__name"):
        found.setdefault(str(server), []).append(name)
    return found


def members_of(groups: Sequence[ServerGroup]) -> dict[str, list[int]]:
    """The ids of the servers of each group, by its name, asked in one query."""
    rows = ServerGroup.servers.through.objects.filter(servergroup__in=groups).order_by("server__name")
    members: dict[int, list[int]] = {group.pk: [] for group in groups}
    for group, server in rows.values_list("servergroup", "server"):
        members[group].append(server)
    return {group.name: members[group.pk] for group in groups}


#: Of a secret file, a line or a value that is shorter is no secret: it would hide half of a log.
_SHORTEST_LINE = 6
#: Lines of a secret file that are looked at.
_MOST_LINES = 2_000
_ASSIGNED = re.compile(r"[=:]\s*[\"']?(.*?)[\"']?[,;]?\s*\Z")


def _telling(content: str) -> Iterable[str]:
    """What of a secret file no log may show: its lines, and the values that they give to a name."""
    for line in content.splitlines()[:_MOST_LINES]:
        text = line.strip()
        assigned = _ASSIGNED.search(text)
        for value in (text, assigned[1] if assigned else ""):
            if len(value) >= _SHORTEST_LINE:
                yield value


def secrets_of(project: Project) -> list[str]:
    """What of a project no log may show, whatever is deployed: its secret values, those of its sets, its secret files.

    What cannot be read is left out.
    """
    given = given_to(project, shown=True)
    values = (each.value for each in given.values(given.placed).every() if each.is_secret)
    files = (row.content for row in project.config_files.filter(is_secret=True) if not is_unreadable(row))
    return [*dict.fromkeys([*values, *(text for content in files for text in _telling(content))])]


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
    home: str = field(default="", compare=False)

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
    service_kind: str = PROCESS
    service_name: str = ""
    services: tuple[PlannedService, ...] = ()
    restart_script: str = ""
    steps: tuple[PlannedStep, ...] = ()
    stop_script: str = ""
    start_script: str = ""
    # The commit that the branch led to, where the launch had to wait: no project has it.
    commit: str = ""
    # Whether the steps after are run, and nothing else, on servers that are drained: no project says so.
    puts_back: bool = False
    layers: tuple[Layer, ...] = ()
    answers: tuple[Value, ...] = ()
    # The deployment whose values these are, where they are not the project's own of that day.
    values_of: int | None = None

    config_files: tuple[PlannedFile, ...] = ()
    # The names of the groups of each server, where a template may ask for them.
    server_places: dict[str, list[str]] = field(default_factory=dict)
    # Files that somebody has changed on a server are replaced: chosen for one launch.
    overwrite_changed: bool = False
    pause_after: str = ""
    pause_for: int = 0
    guided_failure: bool = False
    guided_for: int = 60

    @classmethod
    def of(
        cls, project: Project, groups: Sequence[ServerGroup], given: Given | None = None, answers: Sequence[Value] = ()
    ) -> "Plan":
        """The plan of a launch; without groups, one that knows the values of every server.

        ``given`` is what the project's variables are, where that was read before.
        """
        own = {"groups", "health_checks", "services", "variables", "layers", "answers", "values_of", "steps"}
        own |= {"commit", "puts_back", "config_files", "server_places", "overwrite_changed"}
        files = planned_files(project)
        members = members_of(groups)
        given = given or given_to(project)
        values = given.values({pk for ids in members.values() for pk in ids} if groups else given.placed, answers)
        return cls(
            **{field.name: getattr(project, field.name) for field in fields(cls) if field.name not in own},
            groups=members,
            health_checks=tuple(Check.of(check) for check in project.health_checks.all()),
            services=tuple(PlannedService(row.kind, row.name) for row in project.services.all()),
            steps=tuple(map(PlannedStep.of, project.steps.in_order())),
            variables=values.common,
            layers=values.layers,
            answers=values.answers,
            config_files=files,
            server_places=groups_by_server(project) if any(file.is_template for file in files) else {},
        )

    def to_json(self) -> dict[str, Any]:
        """The form that a deployment stores."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        """Read back what `to_json` gave. Raises `NewerPlanError`."""
        return read_back(
            cls,
            data
            | {
                "health_checks": tuple(read_back(Check, row) for row in data["health_checks"]),
                "services": tuple(read_back(PlannedService, row) for row in data.get("services", ())),
                "steps": tuple(map(PlannedStep.from_json, data.get("steps", ()))),
                "variables": tuple(read_back(Value, row) for row in data["variables"]),
                "layers": tuple(Layer.from_json(row) for row in data.get("layers", ())),
                "answers": tuple(read_back(Value, row) for row in data.get("answers", ())),
                "config_files": tuple(
                    read_back(PlannedFile, row | {"servers": None if row["servers"] is None else tuple(row["servers"])})
                    for row in data.get("config_files", ())
                ),
            },
        )

    def pauses_after(self, batch: int) -> bool:
        """Whether it waits behind the batch of that number."""
        batches = parse_pauses(self.pause_after or ("1" if self.pause_after_first else ""))
        return batches is None or batch in batches

    @cached_property
    def values(self) -> Values:
        """The values of its variables, by what gives them."""
        return Values(self.variables, self.layers, self.answers)

    def with_values_of(self, number: int, other: "Plan") -> "Plan":
        """It with the values, answers, config files and steps of ``other``, the plan of that deployment."""
        return replace(
            self,
            variables=other.variables,
            layers=other.layers,
            answers=other.answers,
            config_files=other.config_files,
            server_places=other.server_places,
            steps=other.steps,
            values_of=number,
        )

    def variables_for(
        self, scope: str, server: int | None = None, outside: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The variables of ``scope`` (build or deploy), and for scripts those of the server with this id.

        ``outside`` has the values that are not in the plan, by their sources; without them they are empty.
        """
        had = outside or {}
        found = ((name, each.value) for name, each in self.values.on(server, scope).items())
        return {name: had.get(each.source, "") if each.source else each.value for name, each in found}

    def steps_at(self, moment: str, launched: str) -> list[PlannedStep]:
        """The steps at a moment of such a launch, in the order in which they run, on servers and on the platform."""
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
        contents = (file.content for file in self.config_files if file.is_secret)
        return [
            *dict.fromkeys(each.value for each in self.values.every() if each.is_secret),
            *dict.fromkeys(text for content in contents for text in _telling(content)),
        ]

    def files_for(self, server: int | None) -> list[PlannedFile]:
        """The config files that a server gets, the most specific of each path, in their order."""
        found: dict[str, PlannedFile] = {}
        for file in self.config_files:
            known = found.get(file.path)
            if (file.servers is None or server in file.servers) and (known is None or file.rank > known.rank):
                found[file.path] = file
        return list(found.values())

    @property
    def files_in_release(self) -> list[str]:
        """The paths of the config files that lie in each release."""
        return list(dict.fromkeys(file.path for file in self.config_files if file.is_in_release))

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
            return Location(deploy_path, script, log_path, home=home)
        # What a restart would work on, too, is the same place.
        restart = "" if does in {Does.RESTART, Does.RELOAD} else self.script_for("restart_only")
        place = service.at_home(service.script_path(restart, deploy_path), home) if restart else self.main_service
        text, label = self._kept_text(does)
        if text:
            return Location(deploy_path, "", log_path, text, label, place, is_kept=True, home=home)
        text, label = self.own_text(deploy_path, dict.fromkeys(range(len(self.all_services)), does))
        return Location(deploy_path, "", log_path, text, label, place, home=home)

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
