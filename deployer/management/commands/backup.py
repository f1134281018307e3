"""`deployer backup FILE`: all rows and the stored releases in one file, while everything runs."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.management.commandline import OperatorCommand
from deployer.upkeep.archive import BackupError
from deployer.upkeep.backup import back_up_by_hand


class Command(OperatorCommand):
    summary = gettext_lazy(
        "Back up the database, of either kind, and the stored releases into one file, while everything runs. The "
        "encryption keys are not in it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help=_("where to; it must not be there"))
        parser.add_argument("--without-store", action="store_true", help=_("leave the stored releases out"))

    def handle(self, *_args: Any, file: Path, without_store: bool, **_options: Any) -> None:
        try:
            made = back_up_by_hand(file, store=not without_store)
        except BackupError as error:
            raise CommandError(str(error)) from error
        words = {"file": made.file, "size": filesizeformat(made.size), "rows": made.rows, "files": made.files}
        self.stdout.write(_("%(file)s: %(size)s, %(rows)d rows, %(files)d stored files.") % words)
        if made.store:
            self.stdout.write(_("The stored releases are not in it. %s") % made.store)
        words = {"keys": ", ".join(made.keys) or _("none"), "file": settings.DEPLOYER_ENCRYPTION_KEY_FILE}
        self.stdout.write(
            _(
                "The encryption keys are NOT in it: keep them elsewhere, without them no secret of it can be read. "
                "Needed (by fingerprint): %(keys)s; they are in %(file)s or DEPLOYER_ENCRYPTION_KEYS."
            )
            % words
        )
