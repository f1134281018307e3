"""`deployer migrate`: Django's, for a database that this code knows and has the keys of.

A new SQLite file is given its form first, and a new database its encryption key last.
"""

from typing import Any

from django.core.management.commands import migrate
from django.db import DEFAULT_DB_ALIAS

from deployer.database import let_new_file_shrink, refuse_unknown_migrations
from deployer.keyring import prepare_keys, refuse_missing_keys


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        refuse_unknown_migrations(options["database"])
        refuse_missing_keys(options["database"])
        let_new_file_shrink(options["database"])
        super().handle(*args, **options)
        if options["database"] == DEFAULT_DB_ALIAS and not (options["plan"] or options["check_unapplied"]):
            prepare_keys()
