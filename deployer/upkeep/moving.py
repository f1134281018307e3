"""Moves all rows to another database, of either kind."""

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.utils.translation import gettext as _

from deployer.host.supervisor import manage
from deployer.upkeep import rows
from deployer.upkeep.archive import BackupError
from deployer.upkeep.restoring import refuse_used

_ALIAS = "destination"


def move(url: str, settings_of_it: Mapping[str, Any]) -> int:
    """Copy all rows of the database of the settings to the one at ``url``, which is empty; gives how many there are.

    Who is signed in stays so. The former database is left as it is. Raises `BackupError`.
    """
    destination = _connection(settings_of_it)
    try:
        same = ("ENGINE", "NAME", "HOST", "PORT")
        if all(destination.settings_dict[key] == connection.settings_dict[key] for key in same):
            raise BackupError(_("That is the database that is used now."))
        migrations = rows.applied()
        if MigrationExecutor(connection).migration_plan(MigrationLoader(None).graph.leaf_nodes()):
            raise BackupError(_("The database is not migrated yet: run “deployer migrate” first."))
        refuse_used(migrations, destination)
        destination.close()
        _make_tables(url)
        found = rows.tables(migrations)
        with rows.one_moment() as read:
            source = ((table, read(table)) for table in found)
            written = rows.write(source, lambda: rows.last_numbers(found), using=destination)
        return sum(written.values())
    finally:
        destination.close()
        del connections[_ALIAS]
        del connections.settings[_ALIAS]


def _make_tables(url: str) -> None:
    """Have the tables made, in a process of which that is the database: migrations write to no other."""
    environment = os.environ | {"DATABASE_URL": url}
    done = subprocess.run(manage("migrate", "--no-backup"), env=environment, capture_output=True, text=True)
    if done.returncode:
        told = _("The tables cannot be made there: %s")
        raise BackupError(told % (done.stderr.strip().splitlines() or [str(done.returncode)])[-1])


def _connection(settings_of_it: Mapping[str, Any]) -> BaseDatabaseWrapper:
    """A second connection with the settings of another database."""
    former = {key: value for key, value in connection.settings_dict.items() if key != "OPTIONS"}
    lacking = {"HOST": "", "PORT": "", "USER": "", "PASSWORD": "", "OPTIONS": {}}
    connections.settings[_ALIAS] = former | lacking | dict(settings_of_it)
    return connections[_ALIAS]
