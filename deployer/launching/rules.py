"""The one place where a launch is accepted or refused: form, API and command line all come through here.

The right to launch is asked about first; that refusal is a `NotAllowedError`, as everywhere.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from deployer.gates.asking import is_taken
from deployer.gates.belonging import refusal_elsewhere
from deployer.launching.asked import LaunchRequest
from deployer.models import Deployment, validated_branch
from deployer.plan import Check, Plan
from people.rights import NotAllowedError, insist
from people.roles import Action
from projects.commands import expectation
from projects.config_files import FACTS_OF_DEPLOYMENT, FACTS_OF_SERVER, clashes, problem_of_template
from projects.given import clash_sentence
from projects.models import Project
from projects.outside import problem_of
from projects.questions import AnswerRefusedError
from projects.validators import validate_batches, validate_pauses
from servers.fields import DecryptionError
from servers.models import Server
from servers.sentences import sentences

#: Servers that a refusal names.
NAMED = 10
#: A commit by SHA-1 or SHA-256, as git tells it.
WHOLE_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class LaunchRefusedError(Exception):
    """A launch that is not allowed. ``field`` is the input at fault, ``blocking`` the deployment in the way.

    ``conflict``: another deployment is in the way, or was until a moment ago; the launch itself may be right.
    """

    def __init__(
        self, message: str, *, field: str = "", blocking: Deployment | None = None, conflict: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.blocking = blocking
        self.conflict = conflict or blocking is not None


@dataclass(frozen=True)
class Accepted:
    """An accepted launch, worked out once: all code that writes or shows it takes it from here.

    ``servers`` are in their order, inactive ones too; ``batches`` has the batch of each of the ``active`` ones.
    ``branch`` is a tag or a commit as well, and empty where none leads to what is deployed.
    """

    servers: list[Server]
    active: list[Server]
    branch: str
    batches: dict[Server, int]
    plan: Plan


Rule = Callable[[LaunchRequest], LaunchRefusedError | None]


def check_launch(request: LaunchRequest) -> Accepted:
    """Every rule of a launch but the one that the database keeps.

    Raises the `LaunchRefusedError` of the first that refuses, or `NotAllowedError`.
    """
    _ask(RULES, request)
    try:
        _ask(RULES_OF_VARIABLES, request)
        plan = request.plan()
    except DecryptionError as error:
        raise LaunchRefusedError(str(error), field="project") from error
    except AnswerRefusedError as error:
        raise LaunchRefusedError(error.message, field="answers") from error
    if refusal := _sources_are_there(plan) or _files_can_be_filled_in(request, plan):
        raise refusal
    return Accepted(request.servers, request.active, request.code, request.batch_of_each(), plan)


def check_before_gates(request: LaunchRequest) -> None:
    """The rules that come before every gate: the right, and that the project is not archived. Raises the same."""
    _ask(BEFORE_GATES, request)


def _ask(rules: Iterable[Rule], request: LaunchRequest) -> None:
    for rule in rules:
        if refusal := rule(request):
            raise refusal


def refusal_while_active(project: Project) -> LaunchRefusedError:
    """The refusal of a second launch, with the first one in it."""
    blocking = Deployment.objects.at_work().filter(project=project, environment=project.environment).first()
    return LaunchRefusedError(
        is_taken(project, blocking),
        field="project",
        blocking=blocking,
        conflict=True,
    )


def may_launch(request: LaunchRequest) -> bool:
    """Whether whoever asks has the right to: then a button leads there."""
    try:
        _is_allowed(request)
    except NotAllowedError:
        return False
    return True


def _is_allowed(request: LaunchRequest) -> None:
    """Raises `NotAllowedError`."""
    if request.created_by is not None:
        project = request.project
        insist(request.created_by, Action.OPERATE, project, *project.reached_by_launch(request.groups))


def need_current(project: Project) -> None:
    """Raises `LaunchRefusedError` where it is archived."""
    if project.is_archived:
        raise LaunchRefusedError(project.archived_sentence, field="project", conflict=True)


def _is_not_archived(request: LaunchRequest) -> None:
    need_current(request.project)


def _has_a_type(request: LaunchRequest) -> LaunchRefusedError | None:
    if request.deployment_type in Deployment.Type.values:
        return None
    return LaunchRefusedError(
        _("“%(type)s” is not a type of deployment: choose one of %(types)s.")
        % {"type": request.deployment_type, "types": ", ".join(Deployment.Type.values)},
        field="deployment_type",
    )


def _has_a_script(request: LaunchRequest) -> LaunchRefusedError | None:
    project = request.project
    if request.deployment_type in {Deployment.Type.STOP, Deployment.Type.START}:
        return _can_be_stopped_or_started(request)
    if project.can_restart(restart_only=request.is_restart_only):
        return None
    return LaunchRefusedError(
        _(
            "Project “%(project)s” has no deploy_script_path: "
            "set it to the script that restarts the application on its servers, keep the script itself in "
            "restart_script, or give a service_kind that restarts it (systemd, supervisor, pm2, docker)."
        )
        % {"project": project},
        field="project",
    )


def _can_be_stopped_or_started(request: LaunchRequest) -> LaunchRefusedError | None:
    project, is_stop = request.project, request.deployment_type == Deployment.Type.STOP
    if project.can_stop if is_stop else project.can_start:
        return None
    if not project.is_named:
        told = _("Project “%s” does not say which process it is: name it in service_name, so that this can be proved.")
    elif is_stop:
        told = _(
            "Project “%s” cannot be stopped: keep the script that stops it in stop_script, or give a service_kind that "
            "does (systemd, supervisor, pm2, docker)."
        )
    else:
        told = _(
            "Project “%s” cannot be started: keep the script that starts it in start_script, or give a service_kind "
            "that does (systemd, supervisor, pm2, docker)."
        )
    return LaunchRefusedError(told % project, field="project")


def _has_code(request: LaunchRequest) -> LaunchRefusedError | None:
    if request.keeps_release or request.release or request.project.git_url:
        return None
    return _missing(request.project, "git_url", _("a full deployment clones the code from there"))


def _has_a_place(request: LaunchRequest) -> LaunchRefusedError | None:
    if request.keeps_release or request.project.deploy_path:
        return None
    return _missing(request.project, "deploy_path", _("a full deployment puts the release there"))


def _missing(project: Project, field: str, why: str) -> LaunchRefusedError:
    return LaunchRefusedError(
        _("Project “%(project)s” has no %(field)s: %(why)s.") % {"project": project, "field": field, "why": why},
        field="project",
    )


def _batches_make_sense(request: LaunchRequest) -> LaunchRefusedError | None:
    return _unless_valid(validate_batches, request.batches, "batches") if request.batches else None


def _pauses_make_sense(request: LaunchRequest) -> LaunchRefusedError | None:
    return _unless_valid(validate_pauses, request.pause_after, "pause_after") if request.pause_after else None


def _has_groups(request: LaunchRequest) -> LaunchRefusedError | None:
    if request.groups:
        return None
    told = [_("Choose at least one server group.")]
    if not request.project.server_groups.exists():
        belongs = _("Project “%s” belongs to none yet: name the groups, or choose on its page where it belongs.")
        told.append(belongs % request.project)
    return LaunchRefusedError(sentences(*told), field="server_groups")


def _groups_are_of_the_environment(request: LaunchRequest) -> LaunchRefusedError | None:
    project = request.project
    for group in request.groups:
        if group.environment != project.environment:
            return LaunchRefusedError(
                _(
                    "Group “%(group)s” is for %(theirs)s, project “%(project)s” for %(ours)s: "
                    "choose groups of the project's environment."
                )
                % {
                    "group": group,
                    "theirs": group.get_environment_display(),
                    "project": project,
                    "ours": project.get_environment_display(),
                },
                field="server_groups",
            )
    return None


def _goes_where_it_belongs(request: LaunchRequest) -> LaunchRefusedError | None:
    told = refusal_elsewhere(
        request.project,
        request.groups,
        [server.pk for server in request.active],
        is_meant=request.elsewhere,
        is_again=request.retry_of is not None or request.rollback_from is not None,
    )
    field = "elsewhere" if request.project.may_launch_elsewhere else "server_groups"
    return LaunchRefusedError(told, field=field) if told else None


def _servers_are_of_the_groups(request: LaunchRequest) -> LaunchRefusedError | None:
    away = (request.only or frozenset()) - {server.pk for server in request.members}
    if not away:
        return None
    names = Server.objects.filter(pk__in=away).order_by("name").values_list("name", flat=True)
    return not_of_the_groups(list(names) or [str(pk) for pk in sorted(away)], request)


def not_of_the_groups(names: Sequence[str], request: LaunchRequest) -> LaunchRefusedError:
    """The refusal of servers that are in none of the chosen groups."""
    words = {
        "servers": ", ".join(f"“{name}”" for name in names[:NAMED]) + (", …" if len(names) > NAMED else ""),
        "groups": ", ".join(f"“{group}”" for group in request.groups),
    }
    told = _("Not in %(groups)s: %(servers)s. Choose servers of the chosen groups, or choose their groups too.")
    return LaunchRefusedError(told % words, field="servers")


def _has_an_active_server(request: LaunchRequest) -> LaunchRefusedError | None:
    if request.active:
        return None
    if request.servers and request.only is not None:
        names = ", ".join(map(str, request.servers[:NAMED]))
        told = _("None of the chosen servers is active (%s): choose others, or activate one.")
        return LaunchRefusedError(told % names, field="servers")
    return LaunchRefusedError(
        _("There is no active server in %(groups)s: add one or activate one.")
        % {"groups": ", ".join(f"“{group}”" for group in request.groups)},
        field="server_groups",
    )


def _branch_has_a_name(request: LaunchRequest) -> LaunchRefusedError | None:
    if request.keeps_release or (request.release and not request.release.commit_hash):
        return None  # nothing is cloned, or what is deployed was uploaded
    return _unless_valid(validated_branch, request.code, "branch")


def _commit_is_one(request: LaunchRequest) -> LaunchRefusedError | None:
    """What a trigger pins is a whole commit, not a name that could lead elsewhere."""
    if not request.commit or WHOLE_COMMIT.fullmatch(request.commit):
        return None
    return LaunchRefusedError(_("“%s” is not the whole number of a commit.") % request.commit[:100], field="branch")


def _release_is_not_marked_bad(request: LaunchRequest) -> LaunchRefusedError | None:
    release = request.release
    if release is None or not release.is_marked_bad:
        return None
    words = {"release": release, "who": release.bad_by or _("an admin"), "reason": release.bad_reason}
    return LaunchRefusedError(
        _("Release %(release)s was marked as bad by %(who)s: %(reason)s") % words, field="release"
    )


def _has_the_commit_that_must_answer(request: LaunchRequest) -> LaunchRefusedError | None:
    release = request.release
    if request.keeps_release or release is None or release.commit_hash:
        return None
    for check in map(Check.of, request.project.health_checks.all()):
        if check.required and expectation.COMMIT in check.placeholders:
            return LaunchRefusedError(
                _(
                    "The commit of release %(release)s is not known, and the health check %(check)s expects "
                    "{commit}: let it expect {release} instead."
                )
                % {"release": release, "check": check.label},
                field="release",
            )
    return None


def _groups_agree(request: LaunchRequest) -> LaunchRefusedError | None:
    """Two groups of a server that give a variable different values leave open which one counts."""
    if request.values_of is not None:
        return None  # they did when that was launched
    servers = {server.pk: server for server in request.servers}
    clashes = request.given.clashes(servers, request.answers)
    if not clashes:
        return None
    told = [clash_sentence(clash.name, clash.groups, servers[clash.server].name) for clash in clashes[:NAMED]]
    return LaunchRefusedError(" ".join(told), field="project")


def _sources_are_there(plan: Plan) -> LaunchRefusedError | None:
    """What is had from outside at the deployment is registered here, for this environment."""
    for each in plan.values.sourced:
        if why := problem_of(each.source, plan.environment):
            return LaunchRefusedError(f"{each.name}: {why}", field="project")
    return None


def _files_have_one_source(request: LaunchRequest) -> LaunchRefusedError | None:
    """No two groups give one config file to a server of the launch."""
    if not request.puts_files:
        return None
    files = list(request.project.config_files.select_related("server_group", "server").defer("content"))
    names = {server.name for server in request.active} if files else set()
    clash = next((clash for clash in clashes(files) if clash.server in names), None)
    return LaunchRefusedError(clash.sentence, field="project") if clash else None


def _files_can_be_filled_in(request: LaunchRequest, plan: Plan) -> LaunchRefusedError | None:
    """Each template has all its values on every server that it goes to."""
    templates = request.puts_files and any(file.is_template for file in plan.config_files)
    servers = {server.pk: server.name for server in request.active} if templates else {}
    for alike in plan.values.alike(servers).values():
        known = {*plan.values.on(alike[0]), *FACTS_OF_SERVER, *FACTS_OF_DEPLOYMENT}
        for server in alike:
            for file in plan.files_for(server):
                if file.is_template and (why := problem_of_template(file.content, known)):
                    told = _("Config file %(file)s cannot be filled in on %(server)s: %(why)s.")
                    words = {"file": file.label, "server": servers[server], "why": why}
                    return LaunchRefusedError(told % words, field="project")
    return None


def _unless_valid(validate: Callable[[str], Any], value: str, field: str) -> LaunchRefusedError | None:
    try:
        validate(value)
    except ValidationError as error:
        return LaunchRefusedError(" ".join(error.messages), field=field)
    return None


#: In this order: the first that refuses is the one that is told.
BEFORE_GATES: tuple[Rule, ...] = (_is_allowed, _is_not_archived)
RULES: tuple[Rule, ...] = (
    *BEFORE_GATES,
    _has_a_type,
    _has_a_script,
    _has_code,
    _has_a_place,
    _batches_make_sense,
    _pauses_make_sense,
    _has_groups,
    _groups_are_of_the_environment,
    _goes_where_it_belongs,
    _servers_are_of_the_groups,
    _has_an_active_server,
    _branch_has_a_name,
    _commit_is_one,
    _release_is_not_marked_bad,
    _has_the_commit_that_must_answer,
    _files_have_one_source,
)
#: Asked once those agree: they read what the variables of the project are, and raise `DecryptionError`.
RULES_OF_VARIABLES: tuple[Rule, ...] = (_groups_agree,)
