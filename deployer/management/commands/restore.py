"""`deployer restore FILE`: a backup into an empty database; everything new is on hold then."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.management.commandline import SpokenCommand, one_data_folder
from deployer.upkeep.archive import BackupError
from deployer.upkeep.restoring import Settled, look_at, restore
from deployer.upkeep.rows import NotTakenError


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Restore a backup into an empty database. What was going on when it was made ends as interrupted, and "
        "everything new is on hold until somebody lifts that."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help=_("a backup"))
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--check", action="store_true", help=_("only see whether it is whole, and its keys are here"))
        how.add_argument(
            "--as-it-was",
            action="store_true",
            help=_("leave the database as the version that made the backup needs it, to go back to that version"),
        )

    def handle(self, *_args: Any, file: Path, check: bool, as_it_was: bool, **_options: Any) -> None:
        try:
            if check:
                head = look_at(file)
                words = {"file": file, "version": head.version, "moment": head.made_at}
                self.stdout.write(
                    _("%(file)s is whole, and its keys are here: of deployer %(version)s, %(moment)s.") % words
                )
                return
            with one_data_folder():
                restored = restore(file, as_it_was=as_it_was)
        except (BackupError, NotTakenError) as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(_("The database cannot be used: %(why)s") % {"why": str(error).strip()}) from error
        words = {"rows": restored.rows, "files": restored.files, "moment": restored.head.made_at}
        self.stdout.write(_("Restored: %(rows)d rows and %(files)d stored files of %(moment)s.") % words)
        if restored.lost:
            self.stdout.write(
                _("%d releases have no archive here: they count as not stored, and are built again.") % restored.lost
            )
        if restored.settled is None:
            words = {"version": restored.head.version}
            self.stdout.write(_("The database is as deployer %(version)s needs it: start that version.") % words)
        else:
            self._tell(restored.settled)

    def _tell(self, settled: Settled) -> None:
        words = {"interrupted": settled.interrupted, "dropped": settled.dropped, "schedules": settled.schedules}
        self.stdout.write(
            _(
                "Ended as interrupted: %(interrupted)d. Dropped, because they had waited: %(dropped)d. Schedules moved "
                "on: %(schedules)d."
            )
            % words
        )
        self.stdout.write(
            _(
                "Everything new is on hold: look at what runs where, then “deployer hold --lift”. Everybody has to "
                "sign in again."
            )
        )
