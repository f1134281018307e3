"""What a project is given for its variables, read from the database: `projects.effective` says what of it counts."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from django.utils.translation import gettext as _

from projects.effective import GROUP, SERVER, Given, Value
from projects.models import AttachedSet, GivenVariable, Project, SetVariable, Variable, VariableSet
from projects.questions import Question
from servers.fields import is_unreadable
from servers.models import Server, ServerGroup


def given_to(
    project: Project,
    rows: Iterable[Variable] | None = None,
    *,
    shown: bool = False,
    groups: Sequence[ServerGroup] | None = None,
) -> Given:
    """All that gives a value to ``project``; ``rows`` are its own variables, and ``groups`` where it belongs, where
    they are not those that are stored.

    Raises `DecryptionError`, unless it is only to be ``shown``.
    """
    own = [*stored_variables(project)] if rows is None else [*rows]
    attached = attached_to(project)
    by_group: dict[int, list[Value]] = {}
    by_server: dict[int, list[Value]] = {}
    names: dict[tuple[str, int], str] = {}
    everywhere = []
    for row in own:
        value = _value(row, shown=shown)
        if row.server_group is not None:
            by_group.setdefault(row.server_group.pk, []).append(value)
            names[GROUP, row.server_group.pk] = row.server_group.name
        elif row.server is not None:
            by_server.setdefault(row.server.pk, []).append(value)
            names[SERVER, row.server.pk] = row.server.name
        else:
            everywhere.append(value)
    return Given(
        own=everywhere,
        sets=[_of_set(each, shown=shown) for each in attached],
        groups=dict(sorted(by_group.items(), key=lambda each: names[GROUP, each[0]])),
        servers=dict(sorted(by_server.items(), key=lambda each: names[SERVER, each[0]])),
        members=_members(counting_groups(project, groups), by_group) if by_group else {},
        names=names,
    )


def stored_variables(project: Project) -> Iterable[Variable]:
    """The project's own variables as they are stored, with the names of their places."""
    if project.pk is None:
        return []
    rows = Variable.objects.filter(project=project).select_related("server_group", "server")
    return rows.only(
        *("project", "name", "value", "is_secret", "scope", "is_prompt", "choices", "value_from"),
        *("server_group__name", "server__name"),
    )


def questions_of(project: Project) -> list[Question]:
    """What a launch of it asks for, by name. A default that cannot be read is none."""
    return [question_of(row) for row in Variable.objects.filter(project=project, is_prompt=True)]


def question_of(row: Variable) -> Question:
    """A variable that is asked for, as a question."""
    default = "" if is_unreadable(row) else row.value
    return Question(row.name, tuple(row.choice_list), default, row.is_secret, str(row.scope))


def attached_to(project: Project) -> list[AttachedSet]:
    """Its sets in the order in which they were attached, with their variables."""
    rows = AttachedSet.objects.filter(project=project).select_related("variable_set")
    return [*rows.prefetch_related("variable_set__variables")] if project.pk is not None else []


def counting_groups(project: Project, groups: Sequence[ServerGroup] | None = None) -> Any:
    """The groups whose values count for a project, whichever it is launched to: those where it belongs.

    Where it has none (or will have none, by ``groups``), all of its environment.
    """
    own = project.server_groups.all()
    if groups is not None:
        own = ServerGroup.objects.filter(pk__in=[group.pk for group in groups])
    return own if own.exists() else ServerGroup.objects.filter(environment=project.environment)


def strange_sets(project: Project) -> list[AttachedSet]:
    """The sets that are attached to a project, and that projects of its environment cannot have."""
    if project.pk is None:
        return []
    rows = AttachedSet.objects.filter(project=project).select_related("variable_set")
    return [row for row in rows if not row.variable_set.is_for(project.environment)]


def projects_that_cannot_have(it: VariableSet) -> list[Project]:
    """The projects with a set that, as it is now, is not for their environment; archived ones do not count."""
    if it.pk is None or not it.environment:
        return []
    attached = Project.objects.current().filter(attached_sets__variable_set=it)
    return [*attached.exclude(environment=it.environment)]


def place_problem(variable: Variable, groups: Collection[int], servers: Collection[int]) -> str:
    """Why a variable can have no such place, as a sentence; empty where it can.

    ``groups`` are the ids of those that count for its project, ``servers`` of those in a group of its environment.
    """
    if variable.server_group is not None and variable.server_group.pk not in groups:
        return _("The project does not belong to the group “%s”: its values would not count.") % variable.server_group
    if variable.server is not None and variable.server.pk not in servers:
        return _("The server “%s” is in no group of the project's environment.") % variable.server
    return ""


def problems_of(
    project: Project, rows: Iterable[Variable] | None = None, groups: Sequence[ServerGroup] | None = None
) -> list[tuple[Variable | None, str]]:
    """What is wrong with the variables of a stored project, each with the one at fault: places, and groups that clash.

    ``rows`` and ``groups`` are those that are about to be stored.
    """
    own = [*stored_variables(project)] if rows is None else [*rows]
    placed = [row for row in own if row.place is not None]
    if not placed:
        return []
    counting = {*counting_groups(project, groups).values_list("pk", flat=True)}
    wanted = [row.server.pk for row in placed if row.server is not None]
    near = Server.objects.filter(pk__in=wanted, groups__environment=project.environment)
    servers = {*near.values_list("pk", flat=True)} if wanted else set()
    found: list[tuple[Variable | None, str]] = [
        (row, why) for row in placed if (why := place_problem(row, counting, servers))
    ]
    clashes = given_to(project, own, shown=True, groups=groups).clashes()
    names = dict(Server.objects.filter(pk__in={clash.server for clash in clashes}).values_list("pk", "name"))
    for clash in clashes:
        of_clash = (row for row in placed if row.name == clash.name and str(row.server_group or "") == clash.groups[1])
        found.append((next(of_clash, None), clash_sentence(clash.name, clash.groups, names.get(clash.server, ""))))
    return found


def clash_sentence(name: str, groups: tuple[str, str], server: str) -> str:
    """That two groups give one server different values."""
    words = {"name": name, "one": groups[0], "other": groups[1], "server": server}
    return (
        _(
            "The groups “%(one)s” and “%(other)s” give %(name)s different values, and %(server)s is in both: give the "
            "server a value of its own, or both groups the same."
        )
        % words
    )


def _value(row: GivenVariable, of_set: str = "", *, shown: bool) -> Value:
    if shown and is_unreadable(row):
        return Value(row.name, str(_("cannot be read: enter it again")), False, str(row.scope), of_set)
    if row.value_from:  # what it gives is a secret, whatever it is
        return Value(row.name, "", True, str(row.scope), of_set, row.value_from)
    return Value(row.name, row.value, row.is_secret, str(row.scope), of_set)


def _of_set(attached: AttachedSet, *, shown: bool) -> list[Value]:
    rows: Iterable[SetVariable] = attached.variable_set.variables.all()
    return [_value(row, attached.variable_set.name, shown=shown) for row in rows]


def _members(counting: Any, groups: Collection[int]) -> dict[int, list[int]]:
    """The servers of those ``groups`` that are ``counting``."""
    rows = ServerGroup.servers.through.objects.filter(
        servergroup__in=counting.filter(pk__in=groups).order_by().values("pk")
    )
    members: dict[int, list[int]] = {}
    for group, server in rows.values_list("servergroup", "server"):
        members.setdefault(group, []).append(server)
    return members
