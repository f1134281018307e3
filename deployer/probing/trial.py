"""One health check asked of one server at once, outside of any deployment."""

import time
from dataclasses import dataclass, replace

from django.utils.translation import gettext as _

from deployer.models import Deployment, Release
from deployer.plan import Check, Plan
from deployer.probing.health import ask_once
from deployer.probing.identity import Inquiry
from deployer.probing.look import look
from deployer.probing.place import Visit
from projects.commands import release
from projects.commands.expectation import Live
from projects.models import HealthCheck, Project
from servers.errors import ShellError, explained
from servers.models import Server
from servers.ssh.shell import SSHShell, connect

#: Seconds that somebody waits for an answer at most, whatever the check allows.
LIMIT = 20


@dataclass(frozen=True)
class Trial:
    """The result: the ``problem``, empty when healthy; ``asked`` is false where the server could not be reached."""

    problem: str
    seconds: float
    asked: bool = True


def try_check(row: HealthCheck, server: Server) -> Trial:
    """Ask once, as a deployment would. A command is run on the server; nothing else changes anything there."""
    check = replace(Check.of(row), timeout=min(row.timeout, LIMIT))
    try:
        with explained(server), connect(server) as link:
            plan = Plan.of(row.project, [])
            visit = Visit(plan, link, live=_live(link, row.project, plan, check))
            begun = time.monotonic()
            problem = ask_once(visit, check)
            seconds = time.monotonic() - begun
    except ShellError as error:
        server.record_connection(str(error))
        return Trial(str(error), 0, asked=False)
    server.record_connection()
    if problem and check.timeout < row.timeout and seconds >= check.timeout:
        problem = _("%(problem)s; a deployment would wait %(seconds)d seconds") % {
            "problem": problem,
            "seconds": row.timeout,
        }
    return Trial(problem, seconds)


def _live(link: SSHShell, project: Project, plan: Plan, check: Check) -> Live:
    """What is live on the server at this moment, if the check asks for it."""
    if not check.placeholders:
        return Live()
    facts, _answer = look(link, plan, Deployment.Type.RESTART_ONLY, Inquiry.of(plan))
    version = release.release_name(facts.live)
    return Live(version, Release.objects.commit_of(project, version))
