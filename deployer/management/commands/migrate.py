"""`manage.py migrate`: Django's, for a database that this code knows; a new SQLite file is given its form first."""

from typing import Any

from django.core.management.commands import migrate

from deployer.database import let_new_file_shrink, refuse_unknown_migrations


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        refuse_unknown_migrations(options["database"])
        let_new_file_shrink(options["database"])
        super().handle(*args, **options)
