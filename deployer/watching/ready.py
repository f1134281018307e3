"""Whether a process of this installation can answer requests: its database, the form of that, and its keys.

Nothing else takes a web process out of a balancer: a queue or a store that is away must not take all of them.
"""

from collections.abc import Callable, Iterator

from django.db import DatabaseError, connection
from django.utils.translation import gettext as _

from deployer.database import UnknownMigrationsError, few, missing_migrations, refuse_unknown_migrations
from deployer.keyring import MissingKeyError, refuse_missing_keys
from deployer.watching.finding import Finding, error


def not_ready(*, goes_on: bool = False) -> list[Finding]:
    """What keeps this process from answering; the first that is found hides those that cannot be asked without it.

    One that ``goes_on`` has asked when it started whether the database is of a newer deployer. If it is now, that was
    migrated meanwhile, for one that takes this one's place: until it does, this one answers.
    """
    for look in (_database, _missing_migrations if goes_on else _migrations, _keys):
        if found := list(look()):
            return found
    return []


def _database() -> Iterator[Finding]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as why:
        connection.close()
        yield error(
            "database",
            _("The database does not answer."),
            str(why).strip(),
            _("See that the server of DATABASE_URL runs and can be reached, or that the data folder can be written."),
        )


def _migrations() -> Iterator[Finding]:
    try:
        refuse_unknown_migrations()
    except UnknownMigrationsError as why:
        yield error("migrations", _("The database was made by a newer deployer."), str(why))
        return
    yield from _missing_migrations()


def _missing_migrations() -> Iterator[Finding]:
    if missing := missing_migrations():
        yield error(
            "migrations",
            _("The database is not in the form that this version needs."),
            _("These migrations are missing: %s.") % few(missing),
            _("Run “deployer migrate”; “deployer up” does so when it starts."),
        )


def _keys() -> Iterator[Finding]:
    try:
        refuse_missing_keys()
    except MissingKeyError as why:
        yield error("keys", _("An encryption key is missing: secrets cannot be read."), str(why))


def answered(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a look finds; where the database goes away under it, that."""
    try:
        return list(look())
    except DatabaseError as why:
        connection.close()
        return [error("database", _("The database does not answer."), str(why).strip())]
