"""Checks whether a deployment can work: looks at every server, changes nothing, says what is wrong and the remedy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from django.db.models import TextChoices
from django.utils.translation import gettext as _

from deployer.models import Deployment
from deployer.plan import Location, Plan
from deployer.probing.identity import Inquiry
from projects.commands import config_files, service
from projects.commands.look import Facts, question, read
from projects.commands.matching import Found
from projects.commands.release import release_name
from projects.commands.services.kind import Does
from servers.sentences import because, sentences
from servers.ssh.shell import SSHShell

#: Below this, a disk is said to be nearly full.
LITTLE_SPACE = 200 << 20


class Level(TextChoices):
    """How much a finding matters; an error means that it cannot work."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """One thing that was found. ``server`` is empty for all."""

    level: Level
    what: str
    why: str = ""
    remedy: str = ""
    server: str = ""

    def __str__(self) -> str:
        return sentences(because(self.what, self.why), self.remedy)


def look(
    shell: SSHShell, plan: Plan, deployment_type: str, inquiry: Inquiry, files: Sequence[tuple[str, str]] = ()
) -> tuple[Facts, str]:
    """One look at a server that is logged in to: the facts, and its answer to the question who the services are.

    With the state of ``files``, each a path and the user that asks for it, in the facts. Raises a `ShellError` when the
    link is lost.
    """
    deploy_path = plan.deploy_path.rstrip("/")
    named = plan.script_for(deployment_type)
    script = service.script_path(named, deploy_path) if named else ""
    writes = deployment_type == Deployment.Type.FULL
    asked = question(script, deploy_path, plan.run_as, plan.users_of_steps, writes=writes)
    if plan.acts_by_kind(deployment_type):
        does = plan.does(deployment_type)
        asked += "".join(kind.permission(name, plan.where, does) for kind, name in plan.keepers)
    if files:
        asked += f"printf '\\n%s\\n' '{config_files.MARK}'\n{config_files.look(files)}"
    told, answer = shell.capture_after(asked, inquiry.text)
    of_machine, _mark, of_files = told.partition(f"\n{config_files.MARK}\n")
    facts = read(of_machine, deploy_path or script or plan.main_service)
    return replace(facts, files=tuple(config_files.read(of_files, len(files)))) if files else facts, answer.stdout


@dataclass(frozen=True)
class _Look:
    """What the rules below judge by: a deployment, where it goes on one server, and the facts about that server."""

    plan: Plan
    location: Location
    is_full: bool
    does: Does
    facts: Facts
    inquiry: Inquiry
    services: Sequence[Found]

    @property
    def script_may_come(self) -> bool:
        """Whether the script comes with the release that is about to be deployed: what is there now is another one."""
        return self.is_full and self.location.script_is_in_release


def findings(name: str, plan: Plan, deployment_type: str, facts: Facts, services: Sequence[Found]) -> list[Finding]:
    """The findings for this deployment from the ``facts`` about the server ``name``, and its ``services`` there."""
    is_full = deployment_type == Deployment.Type.FULL
    does = plan.does(deployment_type)
    seen = _Look(plan, plan.on(facts.home, deployment_type), is_full, does, facts, Inquiry.of(plan), services)
    return [replace(found, server=name) for rule in RULES for found in _told(rule(seen))]


def _told(found: "Finding | Sequence[Finding] | None") -> Sequence[Finding]:
    return [found] if isinstance(found, Finding) else found or []


def _script_is_there(seen: _Look) -> Finding | None:
    script = seen.location.script
    if not seen.facts.script or seen.script_may_come:
        return None
    why = (
        _("the script %s does not exist") % script
        if seen.facts.script == "missing"
        else _("the script %s cannot be read by this login") % script
    )
    return Finding(
        Level.ERROR,
        _("The restart would fail"),
        why,
        _("Correct deploy_script_path in the project, or put the script there."),
    )


def _has_lines_of_unix(seen: _Look) -> Finding | None:
    return windows_lines(seen.location.script) if seen.facts.windows_lines and not seen.script_may_come else None


def windows_lines(script: str) -> Finding:
    """A script whose lines end as on Windows: bash takes the CR for a part of the last word."""
    return Finding(
        Level.WARNING,
        _("The script may fail"),
        _("the lines of %s end in CR LF, as on Windows") % script,
        _("Convert it on the server (sed -i 's/\\r$//' FILE), or with git by “*.sh text eol=lf” in .gitattributes."),
    )


def _has(tool: str, *, for_full: bool = False) -> Callable[[_Look], Finding | None]:
    """The rule that ``tool`` is installed; ``for_full``: that only a full deployment needs it."""

    def rule(seen: _Look) -> Finding | None:
        if tool in seen.facts.tools or (for_full and not seen.is_full):
            return None
        return Finding(Level.ERROR, _("%s is not installed on the server") % tool, "", _("Install it."))

    return rule


def _can_give_a_session(seen: _Look) -> Finding | None:
    if "setsid" in seen.facts.tools:
        return None
    return Finding(
        Level.WARNING,
        _("setsid is not installed on the server"),
        _("a restart cannot run in a session of its own, and ending it may miss some of its processes"),
        _("Install util-linux."),
    )


def _may_run_as(seen: _Look) -> Finding | None:
    if seen.facts.may_run_as:
        return None
    run_as = seen.plan.run_as
    return Finding(
        Level.ERROR,
        _("The script cannot be run as %s") % run_as,
        _("this login cannot do so by sudo without a password"),
        _("Allow it in sudoers (LOGIN ALL=(%s) NOPASSWD: ALL), or clear run_as in the project.") % run_as,
    )


def _may_run_steps_as(seen: _Look) -> Finding | None:
    refused = sorted(seen.facts.refused.intersection(seen.plan.users_of_steps))
    if not refused:
        return None
    return Finding(
        Level.ERROR,
        _("Steps cannot be run as %s") % ", ".join(refused),
        _("this login cannot do so by sudo without a password"),
        _("Allow it in sudoers (LOGIN ALL=(%s) NOPASSWD: ALL), or clear run_as of the steps.") % ", ".join(refused),
    )


def _may_write(seen: _Look) -> Finding | None:
    if not seen.facts.folder:
        return None
    return Finding(
        Level.ERROR,
        _("The release cannot be put on the server"),
        _("%s is not a folder that this login can write to") % seen.facts.folder,
        _("Create %s and make the login's user its owner.") % seen.location.deploy_path,
    )


def _can_switch(seen: _Look) -> Finding | None:
    if not seen.facts.current_is_folder:
        return None
    deploy_path = seen.location.deploy_path
    return Finding(
        Level.ERROR,
        _("The release cannot be made live"),
        _("%s/current is a real folder, not a link") % deploy_path,
        _("Move it away (for example to %s/releases/first) and link current to it.") % deploy_path,
    )


def _has_space(seen: _Look) -> Finding | None:
    free = seen.facts.free
    if not 0 <= free < LITTLE_SPACE:
        return None
    return Finding(
        Level.WARNING,
        _("The disk is nearly full"),
        _("%(free)d MB are free for %(path)s") % {"free": free >> 20, "path": seen.location.deploy_path},
        _("Free some space, or lower keep_releases."),
    )


def _services_are_there(seen: _Look) -> list[Finding]:
    """Those that their keepers do not know, or do not show to this login."""
    found = []
    for asked, answered in zip(seen.inquiry.questions, seen.services, strict=False):
        kept, kind = answered.kept, asked.keeper
        if kept is None or kind is None or kept.is_known:
            continue
        # A full deployment may bring it.
        level = Level.WARNING if seen.is_full and not kept.refused else Level.ERROR
        found.append(Finding(level, *(kind.unasked(kept) if kept.problem else kind.missing(kept.name))))
    return found


def _may_restart(seen: _Look) -> list[Finding]:
    """The restarts of services that this login would be refused."""
    denied = dict(seen.facts.denied)
    return [
        Finding(Level.ERROR, *kind.denied(name, denied[name], seen.does))
        for kind, name in seen.plan.keepers
        if name in denied
    ]


def _knows_what_must_answer(seen: _Look) -> Finding | None:
    named = [check.label for check in seen.plan.health_checks if check.required and check.placeholders]
    if seen.is_full or seen.does == Does.STOP or not named or release_name(seen.facts.live):
        return None
    return Finding(
        Level.ERROR,
        _("The health check %s would fail") % named[0],
        _("it expects the release that is live, and “current” in the deploy path leads to none"),
        _("Deploy a release first, or change what the check expects."),
    )


#: What a server is judged by, in the order in which it is told.
RULES = (
    _script_is_there,
    _has_lines_of_unix,
    _services_are_there,
    _may_restart,
    _has("bash"),
    _has("tar", for_full=True),
    _has("gzip", for_full=True),
    _has("readlink", for_full=True),
    _has("mv", for_full=True),
    _can_give_a_session,
    _may_run_as,
    _may_run_steps_as,
    _may_write,
    _can_switch,
    _has_space,
    _knows_what_must_answer,
)
