"""`deployer prune`: delete the archives of releases that are no longer needed."""

from typing import Any

from django.core.management.base import CommandParser
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from deployer.management.commandline import OperatorCommand
from deployer.releases.store import disk_use, prune


class Command(OperatorCommand):
    """One pass of what workers do every hour."""

    summary = gettext_lazy(
        "Delete stored releases beyond each project's keep_releases. A release that is live or previous on any "
        "server is never deleted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help=_("show what would be deleted, and delete nothing"))

    def handle(self, *args: Any, **options: Any) -> None:
        gone = prune(dry_run=options["dry_run"])
        for release in gone:
            self.stdout.write(f"{release.project} {release} {filesizeformat(release.size)}")
        size = filesizeformat(sum(release.size for release in gone))
        words = (
            ngettext(
                "%(count)d release would be deleted: %(size)s.",
                "%(count)d releases would be deleted: %(size)s.",
                len(gone),
            )
            if options["dry_run"]
            else ngettext("%(count)d release deleted: %(size)s.", "%(count)d releases deleted: %(size)s.", len(gone))
        )
        self.stdout.write(words % {"count": len(gone), "size": size})
        self.stdout.write(_("The store takes %s now.") % filesizeformat(disk_use()))
