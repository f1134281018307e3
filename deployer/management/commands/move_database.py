"""`deployer move-database URL`: all rows to another database, such as from an SQLite file to PostgreSQL."""

import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.management.commandline import OperatorCommand, one_data_folder
from deployer.queue.rollcall import roll_call
from deployer.settings import database_at
from deployer.upkeep.archive import BackupError
from deployer.upkeep.moving import move
from deployer.upkeep.rows import NotTakenError


class Command(OperatorCommand):
    summary = gettext_lazy(
        "Copy all rows to another database, of either kind, which is empty, while deployer is stopped. The former one "
        "is left as it is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "url", metavar="URL", help=_("as DATABASE_URL has it; “-” reads it from standard input, for its password")
        )

    def handle(self, *_args: Any, url: str, **_options: Any) -> None:
        if url == "-":
            url = sys.stdin.readline().strip()
        try:
            settings_of_it = database_at(url)
        except ImproperlyConfigured as error:
            raise CommandError(str(error).replace("DATABASE_URL", "URL")) from error
        called = roll_call()
        if called is not None and any(worker.is_alive for worker in called.workers):
            raise CommandError(_("Workers are running: stop all parts of deployer first, or what they write is lost."))
        try:
            with one_data_folder():
                count = move(url, settings_of_it)
        except (BackupError, NotTakenError) as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(_("The database cannot be used: %(why)s") % {"why": str(error).strip()}) from error
        self.stdout.write(
            _(
                "Copied: %d rows. Set DATABASE_URL to the new database and start deployer; never start it on the "
                "former one again."
            )
            % count
        )
