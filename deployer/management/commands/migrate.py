"""`deployer migrate`: Django's, for a database that this code knows and has the keys of.

A new SQLite file is given its form first, and a new database its encryption key last. One that has rows is backed up
before anything of it is changed.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.migrations.executor import MigrationExecutor
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from deployer.database import let_new_file_shrink, refuse_unknown_migrations
from deployer.keyring import prepare_keys, refuse_missing_keys
from deployer.upkeep.archive import BackupError
from deployer.upkeep.backup import back_up_before_migration

#: Objects that are made until Python looks for garbage, and how many such looks there are until a longer one.
_SELDOM = (100_000, 50, 100)


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Let Python look for garbage seldom: Django makes all models anew for each step, a quarter of a first migration
    went into looking through them (20.6 s then, 15.5 s now, with 80 MB more).
    """
    usual = gc.get_threshold()
    gc.set_threshold(*_SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


class Command(migrate.Command):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--no-backup", action="store_true", help=_("do not back up before a migration"))

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_unknown_migrations(options["database"])
        refuse_missing_keys(options["database"])
        let_new_file_shrink(options["database"])
        is_real = options["database"] == DEFAULT_DB_ALIAS and not (options["plan"] or options["check_unapplied"])
        if is_real and not options.get("no_backup"):
            self._back_up(options)
        with _collecting_seldom():
            super().handle(*args, **options)
        if is_real:
            prepare_keys()

    def _back_up(self, options: dict[str, Any]) -> None:
        """Back up what is about to be changed; nothing where nothing is, or there is nothing yet."""
        executor = MigrationExecutor(connection)
        loader = executor.loader
        changes = options.get("app_label") or executor.migration_plan(loader.graph.leaf_nodes())
        if not changes or not loader.applied_migrations:
            return
        try:
            made = back_up_before_migration()
        except BackupError as error:
            told = _("The database is not migrated without a backup; --no-backup does it all the same.")
            raise CommandError(f"{error} {told}") from error
        words = {"file": made.file, "size": filesizeformat(made.size)}
        self.stdout.write(_("The database was backed up before its migration: %(file)s (%(size)s).") % words)
