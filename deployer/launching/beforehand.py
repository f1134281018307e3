"""Can this launch work? Asks every server before anything is launched, and says what, why and what to do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from deployer.gates.asking import Answer, Before, ask
from deployer.launching.asked import LaunchRequest
from deployer.launching.gated import case_of
from deployer.launching.rules import Accepted, check_launch, refusal_while_active
from deployer.models import ConfigState
from deployer.plan import Plan, PlannedFile
from deployer.probing.config_files import Of, files_looked_at, finding_of, judge, places, wanted_files
from deployer.probing.identity import Inquiry, Question
from deployer.probing.look import Finding, Level, findings, look
from deployer.probing.place import real_place
from deployer.releases.archives import contents_of
from deployer.releases.isolation import isolation, lacks, remedy_for_lacking
from deployer.releases.tools import missing_tools
from deployer.repositories.mirror import mirror_of
from deployer.side_by_side import side_by_side
from people.record import Act, actor, record
from projects.commands.build import automatic_install, tools_of_install
from projects.commands.look import Facts
from projects.commands.matching import Found
from projects.commands.proof import listed, unknown_process
from projects.commands.release import release_name
from projects.commands.services.kinds import PID_FILE
from projects.models import Project
from servers.errors import ShellError, explained
from servers.models import Server
from servers.ssh.shell import connect


def preflight_of(request: LaunchRequest) -> list[Finding]:
    """All findings before a launch; the servers are asked in parallel. Raises `LaunchRefusedError`."""
    accepted = check_launch(request)
    record(actor().by(request.created_by), Act.TESTED, request.project, note=gettext_noop("a launch"))
    found = [
        *_parts(request),
        *_skipped(accepted),
        *_in_several_groups(accepted),
        *_isolation(request),
        *_tools(request, accepted.plan),
    ]
    in_the_way = refusal_while_active(request.project)
    if in_the_way.blocking:
        found.append(Finding(Level.WARNING, in_the_way.message))
    found += _at_the_gates(ask(case_of(request, accepted)), queue=request.queue)
    return found + _ask_all(request, accepted)


def _at_the_gates(answer: Answer, *, queue: bool) -> list[Finding]:
    """What is closed, and what it will wait for; what of it would refuse the launch is an error."""
    told = [obstacle for obstacle in answer.obstacles if obstacle.before != Before.PLACE]
    found = [Finding(Level.ERROR if each.is_shut and not queue else Level.WARNING, each.sentence) for each in told]
    return found + [Finding(Level.WARNING, remark) for remark in answer.remarks]


def _isolation(request: LaunchRequest) -> list[Finding]:
    """Whether a build that may be needed is kept apart, as this machine does it."""
    if request.keeps_release or request.release is not None or not isolation().falls_short:
        return []
    level = Level.ERROR if isolation().is_refused else Level.WARNING
    return [Finding(level, isolation().told(), isolation().reason(), isolation().remedy())]


def _tools(request: LaunchRequest, plan: Plan) -> list[Finding]:
    """The programs that a build may need and would not find on this machine.

    The automatic install is known by the files of the branch, where it was fetched before.
    """
    if request.keeps_release or request.release is not None:
        return []
    told = _("The scripts seem to need %s, which builds do not find")
    found = [Finding(Level.WARNING, told % tool, "", remedy_for_lacking()) for tool in missing_tools(plan)]
    if plan.auto_install and not plan.install_script:
        with mirror_of(request.project) as mirror:
            command = automatic_install(plan.project_type, mirror.top_folder(request.code))
        for tool in tools_of_install(command):
            if lacks(tool, plan.variables_for("build")):
                why = _("builds do not find the program %s") % tool
                found.append(Finding(Level.ERROR, _("%s would fail") % command, why, remedy_for_lacking()))
    return found


def _parts(request: LaunchRequest) -> list[Finding]:
    told = _("%(number)d of %(all)d servers of %(group)s: the others are left as they are")
    return [Finding(Level.INFO, told % part._asdict()) for part in request.parts]


def _skipped(accepted: Accepted) -> list[Finding]:
    return [
        Finding(Level.WARNING, _("%s is not active: it is skipped") % server, server=server.name)
        for server in accepted.servers
        if not server.is_active
    ]


def _in_several_groups(accepted: Accepted) -> list[Finding]:
    found = []
    for server in accepted.servers:
        groups = [name for name, members in accepted.plan.groups.items() if server.pk in members]
        if len(groups) > 1:
            words = {"server": server, "groups": ", ".join(groups)}
            what = _("%(server)s is in several groups (%(groups)s): it is deployed to only once") % words
            found.append(Finding(Level.INFO, what, server=server.name))
    return found


def _ask_all(request: LaunchRequest, accepted: Accepted) -> list[Finding]:
    language = translation.get_language()  # a thread begins with none of its own
    plan, deployment_type = accepted.plan, request.deployment_type
    inquiry = Inquiry.of(plan)
    came_with = contents_of(request.project)

    def look_at(server: Server) -> tuple[list[Finding], str]:
        notices: list[str] = []
        try:
            with (
                translation.override(language),
                explained(server),
                connect(server, on_notice=notices.append) as shell,
            ):
                files = files_looked_at(plan, server.pk, deployment_type)
                facts, answer = look(shell, plan, deployment_type, inquiry, places(plan, files))
                services = inquiry.read(answer)
                found = findings(server.name, plan, deployment_type, facts, services)
                found += _files(request.project, server, plan, files, facts, came_with)
                for question, service in zip(inquiry.questions, services, strict=True):
                    found += _processes(server, question, service)
                place = real_place(server, facts)
                server.record_connection(facts=facts.learned())
        except ShellError as error:
            return [Finding(Level.ERROR, error.what, error.why, error.remedy, server.name)], ""
        return [Finding(Level.WARNING, notice, server=server.name) for notice in notices] + found, place

    answers = side_by_side(accepted.active, look_at)
    found = [finding for told, _place in answers for finding in told]
    return _one_machine(accepted.active, [place for _told, place in answers]) + found


def _files(
    project: Project,
    server: Server,
    plan: Plan,
    files: Sequence[PlannedFile],
    facts: Facts,
    came_with: Callable[[str], Mapping[str, str]],
) -> list[Finding]:
    """What is to be said of the config files that are on a server."""
    if not files:
        return []
    release = release_name(facts.live)
    wanted = {it.path: it for it in wanted_files(plan, Of(server.pk, server.name, server.host))}
    known, found = ConfigState.of(project.pk, server.pk), []
    for file, state in zip(files, facts.files, strict=True):
        it, left = wanted[file.path], known.get((release if file.is_in_release else "", file.path))
        verdict = judge(it, state, left, lambda path, sha256: came_with(release).get(path) == sha256)
        finding = finding_of(it, state, left, verdict, plan)
        if finding is not None:
            found.append(replace(finding, server=server.name))
    return found


def _one_machine(servers: Sequence[Server], places: Sequence[str]) -> list[Finding]:
    """Of the servers that are one machine and folder, all but the first."""
    found: list[Finding] = []
    first: dict[str, Server] = {}
    for server, place in zip(servers, places, strict=True):
        if place and first.setdefault(place, server) is not server:
            words = {"server": server, "first": first[place]}
            what = _("%(server)s and %(first)s are one machine and folder: it is deployed to only once") % words
            found.append(Finding(Level.WARNING, what, server=server.name))
    return found


def _sentence(question: Question) -> str:
    """How a service and its processes are told, by its kind."""
    told = {
        "systemd": _("The unit %(name)s: %(processes)s"),
        "supervisor": _("The program %(name)s of supervisor: %(processes)s"),
        "pm2": _("The app %(name)s of pm2: %(processes)s"),
        "docker": _("The container %(name)s: %(processes)s"),
        "port": _("Port %(name)s: %(processes)s"),
        PID_FILE: _("The pid file %(name)s: %(processes)s"),
    }
    return told.get(question.kind, _("“%(name)s” matches %(processes)s"))


def _processes(server: Server, question: Question, service: Found) -> list[Finding]:
    """The processes that a restart should replace, and those that might be taken for them."""
    chosen = service.chosen
    if service.kept and not service.kept.is_known:
        return []  # that is a finding of its own
    if not question.name:
        return [Finding(Level.WARNING, unknown_process(), server=server.name)]
    words = {"name": question.title, "processes": listed(chosen.after) or _("no process")}
    told = [
        Finding(
            Level.INFO if chosen.after else Level.WARNING,
            _sentence(question) % words,
            server=server.name,
        )
    ]
    if chosen.others:
        told.append(Finding(Level.INFO, _("Not meant: %s") % listed(chosen.others), server=server.name))
    if service.near and not chosen.after:
        what = _("Running from this folder, or with such a name: %s") % listed(service.near)
        told.append(Finding(Level.INFO, what, server=server.name))
    return told
