"""The config files that a server is to have, and what is to be done about those that are there. Nothing is changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from django.utils.translation import gettext as _

from deployer.log.masking import Masker
from deployer.models import CameWithRelease, ConfigState, Deployment, Drift
from deployer.plan import Plan, PlannedFile
from deployer.probing.look import Finding, Level
from projects.commands.config_differences import Difference, compare, hidden, with_secrets
from projects.commands.config_files import File, Kind, State
from projects.commands.config_templates import TemplateError, names, render
from projects.config_files import FACTS_OF_DEPLOYMENT
from servers.errors import NotReadyError


@dataclass(frozen=True)
class Of:
    """The server that the files are for: its number, and what a template may say of it."""

    server: int | None
    name: str
    host: str


@dataclass(frozen=True)
class WantedFile:
    """A config file as one server is to have it: nothing where that depends on a deployment that is not there yet.

    ``made_of`` is the same for the same content, mode and owner, whichever deployment puts in its own facts.
    """

    planned: PlannedFile
    content: str | None
    made_of: str

    @property
    def path(self) -> str:
        return self.planned.path

    @property
    def sha256(self) -> str:
        """That of its content; empty where it is not known yet."""
        return "" if self.content is None else File(self.path, self.content).sha256


def wanted_files(plan: Plan, of: Of, facts: Mapping[str, str] | None = None) -> list[WantedFile]:
    """The files of a server, filled in with the ``facts`` of its deployment where there is one.

    Raises `NotReadyError`, which names the file, where one cannot be filled in.
    """
    return [_wanted(file, plan, of, facts) for file in plan.files_for(of.server)]


def _wanted(file: PlannedFile, plan: Plan, of: Of, facts: Mapping[str, str] | None) -> WantedFile:
    made_of = f"{int(file.mode, 8):o} {file.owner}\n"
    if not file.is_template:
        return WantedFile(file, file.content, made_of + file.content)
    values = values_for(plan, of)
    unknown = {*FACTS_OF_DEPLOYMENT, *_from_outside(plan, of)}
    open_ones = {name: f"\0{name}\0" for name in unknown}
    try:
        made_of += render(file.content, {**values, **open_ones})
        if facts is None:
            is_known = unknown.isdisjoint(names(file.content))
            return WantedFile(file, render(file.content, values) if is_known else None, made_of)
        return WantedFile(file, render(file.content, {**values, **facts}), made_of)
    except TemplateError as error:
        raise NotReadyError(
            _("Config file %s cannot be filled in") % file.label,
            str(error),
            _("Correct it in the project, or define the variable."),
        ) from error


def _from_outside(plan: Plan, of: Of) -> list[str]:
    """The variables that only a deployment knows, since their values are had from outside."""
    return [name for name, counting in plan.values.on(of.server).items() if counting.value.source]


def values_for(plan: Plan, of: Of) -> dict[str, str]:
    """What a template may use before there is a deployment: the variables that count there, and the server's own."""
    return {
        **plan.variables_for("deploy", of.server),
        "DEPLOY_PROJECT": plan.name,
        "DEPLOY_ENVIRONMENT": plan.environment,
        "DEPLOY_SERVER": of.name,
        "DEPLOY_HOST": of.host,
        "DEPLOY_GROUPS": ",".join(plan.server_places.get(str(of.server), [])),
    }


def files_put(plan: Plan, server: int | None, deployment_type: str) -> list[PlannedFile]:
    """The files that such a deployment puts on a server: one that only stops or starts what is there puts none."""
    return [] if deployment_type in {Deployment.Type.STOP, Deployment.Type.START} else plan.files_for(server)


def files_looked_at(plan: Plan, server: int | None, deployment_type: str) -> list[PlannedFile]:
    """The files of a server that a look can see: a full deployment brings a release with files of its own."""
    is_full = deployment_type == Deployment.Type.FULL
    return [file for file in files_put(plan, server, deployment_type) if not (is_full and file.is_in_release)]


def places(plan: Plan, files: Sequence[PlannedFile], release: str = "") -> list[tuple[str, str]]:
    """Where to look for ``files``, and as whom: in a ``release``, or in the one that is live.

    Those on the machine are read and written by the user that the scripts run as; those in a release, and in the home
    of the login, by the login itself, whose they are.
    """
    return [place_of(plan, it.path, it.is_in_release, release) for it in files]


def place_of(plan: Plan, path: str, is_in_release: bool, release: str = "") -> tuple[str, str]:
    """The same of one file, by its path."""
    if is_in_release:
        return f"{plan.deploy_path.rstrip('/')}/{f'releases/{release}' if release else 'current'}/{path}", ""
    return path, plan.run_as if path.startswith("/") else ""


class Verdict(Enum):
    """What is to be done about a file."""

    SAME = auto()
    WRITE = auto()
    #: There is one that deployer did not leave there: it is replaced only if somebody says so.
    CHANGED = auto()
    #: It cannot be put there at all.
    BLOCKED = auto()


def judge(
    wanted: WantedFile, state: State, left: ConfigState | None, came_with_release: CameWithRelease | None = None
) -> Verdict:
    """What is to be done about a file of which this is there, and which deployer ``left`` like that, if it did."""
    if state.kind == Kind.NONE:
        return Verdict.WRITE
    if state.kind == Kind.NOWHERE:
        return Verdict.WRITE if wanted.planned.is_in_release else Verdict.BLOCKED
    if state.kind != Kind.FILE:
        return Verdict.BLOCKED
    if state.sha256 == wanted.sha256:
        return Verdict.SAME if state.has(wanted.planned.mode, wanted.planned.owner) else Verdict.WRITE
    if left is not None and (left.digest or left.coming):
        return Verdict.WRITE if left.is_left(state.sha256) else Verdict.CHANGED
    if wanted.planned.is_in_release and came_with_release and came_with_release(wanted.path, state.sha256):
        return Verdict.WRITE
    return Verdict.CHANGED


def why_blocked(wanted: WantedFile, state: State) -> tuple[str, str]:
    """Why a file cannot be put there, and what to do."""
    if state.kind == Kind.NOWHERE:
        return _("its folder does not exist"), _("Create the folder, or correct the path.")
    if state.kind == Kind.HIDDEN:
        return (
            _("the one that is there cannot be read by the user that would replace it"),
            _("Let that user read it, or move it away."),
        )
    return _("there is something else than a file"), _("Remove it, or correct the path.")


def why_changed(left: ConfigState | None) -> str:
    """How a file that is there came not to be deployer's."""
    if left is not None and left.digest:
        return _("it was changed by hand since deployment #%s") % (left.deployment_id or "–")
    return _("there is one already that deployer did not put there")


def remedy_for_changed() -> str:
    """What to do about files that somebody has changed."""
    return _("Look at the difference, then take over the change, or choose to overwrite it.")


def finding_of(
    wanted: WantedFile, state: State, left: ConfigState | None, verdict: Verdict, plan: Plan
) -> Finding | None:
    """What is to be said of a file before a launch; nothing where all is as usual."""
    label = wanted.planned.label
    if verdict == Verdict.BLOCKED:
        why, remedy = why_blocked(wanted, state)
        return Finding(Level.ERROR, _("Config file %s cannot be put there") % label, why, remedy)
    if verdict == Verdict.CHANGED and plan.overwrite_changed:
        return Finding(Level.WARNING, _("Config file %s will be overwritten") % label, why_changed(left))
    if verdict == Verdict.CHANGED:
        what = _("Config file %s would be overwritten") % label
        return Finding(Level.ERROR, what, why_changed(left), remedy_for_changed())
    if state.kind == Kind.NONE and left is not None and left.digest:
        return Finding(Level.WARNING, _("Config file %s was deleted by hand: it is written again") % label)
    return None


def shown_difference(wanted: WantedFile, there: str, plan: Plan, of: Of) -> Difference:
    """What replacing a file of which this is ``there`` would change; nothing of any secret is in it.

    The facts of a deployment that is not there yet stand as their names.
    """
    planned = wanted.planned
    if planned.is_secret:
        return hidden(compare(there, wanted.content if wanted.content is not None else planned.content))
    mask = Masker(plan.secrets())
    if not planned.is_template:
        return compare(there, planned.content, mask, lambda _n, line: mask(line))
    unknown = [*FACTS_OF_DEPLOYMENT, *_from_outside(plan, of)]
    values = {**values_for(plan, of), **{name: f"[{name}]" for name in unknown}}
    secrets = {
        name: each.value.value
        for name, each in plan.values.on(of.server).items()
        if each.value.is_secret and not each.value.source
    }
    if secrets.keys().isdisjoint(names(planned.content)):
        return compare(there, render(planned.content, values), mask, lambda _n, line: mask(line))
    return with_secrets(there, planned.content, values, secrets)


def drift(states: Mapping[tuple[str, str], State], left: Mapping[tuple[str, str], ConfigState]) -> list[dict[str, str]]:
    """The files, by release and path, that are not as deployer left them, as a sighting keeps them."""
    found = []
    for key, state in states.items():
        row = left.get(key)
        if row is None or not row.digest:
            continue
        what = None
        if state.kind == Kind.HIDDEN:
            what = Drift.HIDDEN
        elif state.kind != Kind.FILE:
            what = Drift.GONE
        elif not row.is_left(state.sha256):
            what = Drift.CHANGED
        if what is not None:
            found.append({"path": row.path, "what": str(what)})
    return found
