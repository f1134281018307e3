"""Can this deployment work? Looks at every server, changes nothing, and says what, why and what to do."""

from dataclasses import dataclass
from typing import ClassVar

from django.utils.translation import gettext as _

from deployer.models import Deployment
from deployer.plan import Plan
from deployer.probing.identity import Question
from projects.commands import look as preflight
from projects.commands import service
from servers.sentences import because, sentences
from servers.ssh.shell import SSHShell

#: Below this, a disk is said to be nearly full.
LITTLE_SPACE = 200 << 20


@dataclass(frozen=True)
class Finding:
    """One thing that was found. ``level``: error (it cannot work), warning, info. ``server`` is empty for all."""

    ERROR: ClassVar = "error"
    WARNING: ClassVar = "warning"
    INFO: ClassVar = "info"

    level: str
    what: str
    why: str = ""
    remedy: str = ""
    server: str = ""

    def __str__(self) -> str:
        return sentences(because(self.what, self.why), self.remedy)


def look(shell: SSHShell, plan: Plan, deployment_type: str) -> tuple[preflight.Facts, str]:
    """One look at a server that is logged in to: the facts, and the answer to `service.survey`.

    Raises a `ShellError` when the link is lost.
    """
    deploy_path = plan.deploy_path.rstrip("/")
    script = service.script_path(plan.script_for(deployment_type), deploy_path)
    writes = deployment_type == Deployment.Type.FULL
    facts, answer = shell.capture_after(
        preflight.look(script, deploy_path, plan.run_as, writes=writes), Question.of(plan).text
    )
    return preflight.read(facts), answer.stdout


def findings(name: str, plan: Plan, deployment_type: str, facts: preflight.Facts) -> list[Finding]:
    """What the ``facts`` about the server ``name`` mean for this deployment."""
    full = deployment_type == Deployment.Type.FULL
    location = plan.on(facts.home, deployment_type)
    deploy_path, script = location.deploy_path, location.script
    found: list[Finding] = []

    def add(level: str, what: str, why: str = "", remedy: str = "") -> None:
        found.append(Finding(level, what, why, remedy, name))

    # A script below current may come with the release that is about to be deployed.
    comes_with_release = full and script.startswith(f"{deploy_path}/current/")
    if facts.script and not comes_with_release:
        why = (
            _("the script %s does not exist") % script
            if facts.script == "missing"
            else _("the script %s cannot be read by this login") % script
        )
        add(
            Finding.ERROR,
            _("The restart cannot work"),
            why,
            _("Correct deploy_script_path in the project, or put the script there."),
        )
    needed = ("bash", "tar", "gzip", "readlink", "mv") if full else ("bash",)
    for tool in needed:
        if tool not in facts.tools:
            add(Finding.ERROR, _("%s is not installed on the server") % tool, "", _("Install it."))
    if "setsid" not in facts.tools:
        add(
            Finding.WARNING,
            _("setsid is not installed on the server"),
            _("a restart cannot be given a session of its own, and ending it may miss some of its processes"),
            _("Install util-linux."),
        )
    if not facts.may_run_as:
        add(
            Finding.ERROR,
            _("The script cannot be run as %s") % plan.run_as,
            _("this login may not do so by sudo without a password"),
            _("Allow it in sudoers (LOGIN ALL=(%s) NOPASSWD: ALL), or empty run_as in the project.") % plan.run_as,
        )
    if facts.folder:
        add(
            Finding.ERROR,
            _("The release cannot be put there"),
            _("%s is not a folder that this login may write") % facts.folder,
            _("Make %s and give it to the login's user.") % deploy_path,
        )
    if facts.current_is_folder:
        add(
            Finding.ERROR,
            _("The release cannot be made live"),
            _("%s/current is a real folder and not a link") % deploy_path,
            _("Move it away (for example to %s/releases/first) and link current to it.") % deploy_path,
        )
    if 0 <= facts.free < LITTLE_SPACE:
        add(
            Finding.WARNING,
            _("The disk is nearly full"),
            _("%(free)d MB are free for %(path)s") % {"free": facts.free >> 20, "path": deploy_path},
            _("Remove something, or lower keep_releases."),
        )
    return found
