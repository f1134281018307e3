"""Can this launch work? Asks every server before anything is launched, and says what, why and what to do."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.db import connections
from django.utils import translation
from django.utils.translation import gettext as _

from deployer.launching.asked import LaunchRequest
from deployer.launching.rules import check_launch, refusal_while_active
from deployer.plan import Plan
from deployer.probing.look import Finding, findings, look
from projects.commands import service
from servers.models import Server
from servers.shell import ShellError
from servers.ssh.shell import connect


def preflight_of(request: LaunchRequest) -> list[Finding]:
    """Everything that can be said before a launch, servers asked side by side. Raises `LaunchRefusedError`."""
    servers = check_launch(request)
    plan = Plan.of(request.project, request.groups)
    found = [
        Finding(Finding.WARNING, _("%s is not active: it is skipped") % server, server=server.name)
        for server in servers
        if not server.is_active
    ]
    for server in servers:
        groups = [name for name, members in plan.groups.items() if server.pk in members]
        if len(groups) > 1:
            what = _("%(server)s is in %(groups)s: it is deployed to once") % {
                "server": server,
                "groups": ", ".join(groups),
            }
            found.append(Finding(Finding.INFO, what, server=server.name))
    in_the_way = refusal_while_active(request.project)
    if in_the_way.blocking:
        found.append(Finding(Finding.WARNING, in_the_way.message))
    return found + _ask_all([server for server in servers if server.is_active], plan, request.deployment_type)


def _ask_all(servers: Sequence[Server], plan: Plan, deployment_type: str) -> list[Finding]:
    language = translation.get_language()  # a thread begins with none of its own

    def look_at(server: Server) -> list[Finding]:
        notices: list[str] = []
        try:
            with translation.override(language), connect(server, on_notice=notices.append) as shell:
                facts, answer = look(shell, plan, deployment_type)
                found = [*findings(server.name, plan, deployment_type, facts), _processes(server, plan, answer)]
        except ShellError as error:
            return [Finding(Finding.ERROR, error.what, error.why, error.remedy, server.name)]
        finally:
            connections.close_all()
        return [Finding(Finding.WARNING, notice, server=server.name) for notice in notices] + found

    with ThreadPoolExecutor(min(len(servers), settings.DEPLOYER_PARALLEL_SERVERS)) as threads:
        return [finding for found in threads.map(look_at, servers) for finding in found]


def _processes(server: Server, plan: Plan, answer: str) -> Finding:
    """Which processes a restart would be expected to replace."""
    name = plan.process_name or service.derived_process_name(plan.name)
    found = service.find_processes(service.read_survey(answer), name, derived=not plan.process_name)
    listed = ", ".join(
        _("pid %(pid)s (%(command)s)") % {"pid": process.pid, "command": process.command[:80]} for process in found[:4]
    )
    what = _("“%(name)s” matches %(processes)s") % {"name": name, "processes": listed or _("no process")}
    return Finding(Finding.INFO if found else "warning", what, server=server.name)
