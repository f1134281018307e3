"""Pasted variables beside those that a project has: what is new, what changes, and saving exactly that."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from people.record import BeforeAll
from people.sealing import DecryptionError, decrypt, encrypt
from projects import dotenv
from projects.given import problems_of, stored_variables
from projects.models import Project, Variable
from servers.fields import is_unreadable
from servers.models import Server, ServerGroup

NEW, CHANGED, SAME = "new", "changed", "same"


@dataclass(frozen=True)
class Wanted:
    """What was pasted, and what is to become of it. ``secrets``: ``all`` values, ``none``, or ``guess`` by name."""

    text: str
    scope: str
    secrets: str
    server_group: int | None = None
    server: int | None = None

    def sealed(self, project: Project) -> str:
        """It for a hidden box: nobody can read it there, nor change it."""
        return encrypt(json.dumps([project.pk, vars(self)]))

    @classmethod
    def unsealed(cls, token: str, project: Project) -> "Wanted | None":
        """Read back what `sealed` gave for this project."""
        try:
            number, values = json.loads(decrypt(token))
        except (DecryptionError, ValueError):
            return None
        return cls(**values) if number == project.pk else None


@dataclass(frozen=True)
class Row:
    """One pasted variable, and whether it is new, changes one that is there, or is as it is."""

    variable: Variable
    state: str


@dataclass(frozen=True)
class Preview:
    """What saving would do, or why nothing can be saved."""

    rows: tuple[Row, ...]
    mistakes: tuple[str, ...]

    @property
    def sign(self) -> str:
        """What was shown, to be told from what is there by the time it is saved."""
        return ",".join(f"{row.variable.name}:{row.state}:{row.variable.is_secret:d}" for row in self.rows)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to save."""
        return all(row.state == SAME for row in self.rows)


def preview(project: Project, wanted: Wanted) -> Preview:
    """Compare what was pasted with what is there; nothing is saved."""
    pasted = dotenv.read(wanted.text)
    if not pasted.values and not pasted.mistakes:
        return Preview((), (_("There is no variable in it."),))
    if pasted.mistakes:
        return Preview((), tuple(pasted.mistakes))
    own = [*stored_variables(project)]
    group = ServerGroup.objects.filter(pk=wanted.server_group).first() if wanted.server_group else None
    server = Server.objects.filter(pk=wanted.server).first() if wanted.server else None
    known = {row.name: row for row in own if (row.scope, row.server_group, row.server) == (wanted.scope, group, server)}
    rows: list[Row] = []
    mistakes: list[str] = []
    for name, value in pasted.values.items():
        row = known.get(name)
        guessed = wanted.secrets == "all" or (wanted.secrets == "guess" and dotenv.looks_secret(name, value))
        if row is None:
            row = Variable(
                project=project,
                name=name,
                value=value,
                is_secret=guessed,
                scope=wanted.scope,
                server_group=group,
                server=server,
            )
            own.append(row)
            state = NEW
        else:
            was = (None if is_unreadable(row) else row.value, row.is_secret)
            # What is a secret stays one: pasting reveals nothing.
            row.value, row.is_secret = value, row.is_secret or guessed
            state = SAME if was == (row.value, row.is_secret) else CHANGED
        rows.append(Row(row, state))
        mistakes += _objections(row)
    mistakes += [why for _row, why in problems_of(project, own)]
    return Preview(tuple(rows), tuple(mistakes))


def save(project: Project, wanted: Wanted, shown: str) -> Preview | None:
    """Save what a preview with the sign ``shown`` has shown. Otherwise gives what would be saved by now."""
    with transaction.atomic():
        Project.objects.select_for_update().filter(pk=project.pk).first()
        found = preview(project, wanted)
        if found.mistakes or found.sign != shown:
            return found
        changed = [row.variable for row in found.rows if row.state != SAME]
        before = BeforeAll(Variable, [row.pk for row in changed])
        for row in changed:
            row.save(update_fields=["value", "is_secret"] if row.pk else None)
        before.record([row.pk for row in changed], "pasted")
    return None


def _objections(row: Variable) -> Iterator[str]:
    try:
        row.full_clean()
    except ValidationError as error:
        messages: Any = error.message_dict
        for told in messages.values():
            yield f"{row.name}: {' '.join(told)}"
