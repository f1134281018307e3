"""What a launch would change in the config files of its servers: asked of each of them, secrets masked."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from deployer.launching.asked import LaunchRequest
from deployer.launching.rules import check_launch
from deployer.models import ConfigState, Deployment
from deployer.plan import Plan
from deployer.probing.config_files import (
    Of,
    Verdict,
    WantedFile,
    files_looked_at,
    judge,
    places,
    shown_difference,
    wanted_files,
    why_blocked,
    why_changed,
)
from deployer.probing.identity import Inquiry
from deployer.probing.look import look
from deployer.releases.archives import contents_of
from deployer.side_by_side import side_by_side
from people.record import Act, actor, record
from projects.commands import config_files
from projects.commands.config_differences import Difference
from projects.commands.config_files import Kind, State
from projects.commands.release import release_name
from servers.errors import ShellError, explained
from servers.models import Server
from servers.ssh.shell import connect

#: Servers that are asked for one page.
MOST_SERVERS = 100


@dataclass(frozen=True)
class FileDifference:
    """A file that would be replaced: how, and what is to be said of the one that is there.

    ``is_changed``: somebody else has changed it, or put it there; ``is_blocked``: it cannot be replaced.
    """

    label: str
    difference: Difference | None
    told: str = ""
    is_changed: bool = False
    is_blocked: bool = False


@dataclass(frozen=True)
class ServerDifference:
    """The files of a server that would be replaced; ``problem`` says why it could not be asked."""

    server: Server
    files: list[FileDifference] = field(default_factory=list)
    same: int = 0
    problem: str = ""


def differences_of(request: LaunchRequest) -> list[ServerDifference]:
    """What each server has differently, those that differ first. Raises `LaunchRefusedError` and `NotAllowedError`."""
    accepted = check_launch(request)
    record(actor().by(request.created_by), Act.TESTED, request.project, note=gettext_noop("the config files"))
    language = translation.get_language()  # a thread begins with none of its own
    came_with = contents_of(request.project)
    servers = accepted.active[:MOST_SERVERS]

    def ask(server: Server) -> ServerDifference:
        try:
            with translation.override(language), explained(server), connect(server) as shell:
                visit = _Visit(accepted.plan, server, request.deployment_type)
                facts, _answer = look(shell, visit.plan, request.deployment_type, Inquiry.of(visit.plan), visit.places)
                release = release_name(facts.live)
                known = ConfigState.of(request.project.pk, server.pk)
                answer = shell.capture(
                    config_files.contents(visit.places), limit=config_files.limit_of_contents(len(visit.places))
                )
                texts = config_files.read_contents(answer.stdout, len(visit.places))
                rows = zip(visit.wanted, facts.files, texts, strict=True)
                found = [visit.compared(*row, known, release, came_with(release)) for row in rows]
        except ShellError as error:
            return ServerDifference(server, problem=str(error))
        files = [it for it in found if it is not None]
        return ServerDifference(server, files, same=len(found) - len(files))

    if not accepted.plan.config_files:
        return []
    return sorted(side_by_side(servers, ask), key=lambda it: not (it.files or it.problem))


class _Visit:
    """The files of one server that are compared."""

    def __init__(self, plan: Plan, server: Server, deployment_type: str) -> None:
        self.plan = plan
        self.of = Of(server.pk, server.name, server.host)
        self.is_full = deployment_type == Deployment.Type.FULL
        files = files_looked_at(plan, server.pk, deployment_type)
        wanted = {it.path: it for it in wanted_files(plan, self.of)}
        self.wanted = [wanted[file.path] for file in files]
        self.places = places(plan, files)

    def compared(
        self,
        wanted: WantedFile,
        state: State,
        there: str | None,
        known: Mapping[tuple[str, str], ConfigState],
        release: str,
        came_with: Mapping[str, str],
    ) -> FileDifference | None:
        """What would become of a file; nothing where it is as it is to be."""
        left = known.get((release if wanted.planned.is_in_release else "", wanted.path))
        verdict = judge(wanted, state, left, lambda path, sha256: came_with.get(path) == sha256)
        label = wanted.planned.label
        if verdict == Verdict.SAME:
            return None
        if verdict == Verdict.BLOCKED:
            return FileDifference(label, None, why_blocked(wanted, state)[0], is_blocked=True)
        if state.kind != Kind.FILE:
            told = _("it is not there yet")
            return FileDifference(label, shown_difference(wanted, "", self.plan, self.of), told)
        if there is None:
            told = _("the one that is there is too large, or is not text")
            return FileDifference(label, None, told, is_changed=verdict == Verdict.CHANGED)
        difference = shown_difference(wanted, there, self.plan, self.of)
        told = why_changed(left) if verdict == Verdict.CHANGED else ""
        if difference.is_empty and not told:
            told = _("only its mode or its owner")
        return FileDifference(label, difference, told, is_changed=verdict == Verdict.CHANGED)
