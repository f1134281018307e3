"""Sets of variables that several projects share; their variables are in `parts`."""

from typing import Any

from deployer.api.columns import Columns
from deployer.api.filling import keep
from deployer.api.frame import Name
from deployer.api.nouns import Filter, Noun, register
from deployer.api.parts import TAG
from people.models import User
from people.record import delete
from people.rights import insist, reach
from people.roles import EVERYWHERE, Action
from projects.models import VariableSet
from projects.variable_forms import VariableSetForm
from servers.models import Environment

_COLUMNS = Columns(VariableSet, ("name", "description", "environment"))


def _make(user: User, values: dict[str, Any]) -> VariableSet:
    if not reach(user, Action.EDIT).holds_an_environment:
        insist(user, Action.EDIT, EVERYWHERE)
    return _kept(user, VariableSet(), values)


def _edit(user: User, it: VariableSet, values: dict[str, Any]) -> VariableSet:
    insist(user, Action.EDIT, it)
    return _kept(user, it, values)


def _kept(user: User, it: VariableSet, values: dict[str, Any]) -> VariableSet:
    row: VariableSet = keep(lambda data: VariableSetForm(data, instance=it, user=user), values, {})
    return row


def _remove(user: User, it: VariableSet) -> None:
    insist(user, Action.EDIT, it)
    delete(it)


register(
    Noun(
        path="variable-sets",
        one="variable set",
        tag=TAG,
        about="Sets of variables, by name.",
        shape=_COLUMNS.shape(
            "VariableSetShape",
            "A set of variables, for projects of its environment, or of all where that is empty.",
            shown={"id": 1, "name": "eu", "description": "", "environment": "production"},
        ),
        rows=lambda user: VariableSet.objects.reached_by(user),
        told=lambda row, _user: _COLUMNS.told(row),
        filters={"name": Filter(Name, "name"), "environment": Filter(Environment, "environment")},
        new=_COLUMNS.new("VariableSetInput", "A new set.", needed=("name",)),
        make=_make,
        change=_COLUMNS.change("VariableSetChange", "What is to be another in a set."),
        edit=_edit,
        remove=_remove,
    )
)
