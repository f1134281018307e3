"""`deployer prune`: delete what is not kept any longer, and pack old logs."""

from typing import Any

from django.core.management.base import CommandParser
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from deployer.management.commandline import OperatorCommand
from deployer.releases.store import disk_use, prune
from deployer.upkeep.going import keep_up
from deployer.upkeep.packing import packable
from deployer.upkeep.retention import Ripe, ripe


class Command(OperatorCommand):
    """One pass of what workers do every hour."""

    summary = gettext_lazy(
        "Delete releases, deployments, logs and the like that are not kept any longer, and pack old logs. What is live "
        "or previous on any server, and the deployments that tell so, are never deleted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help=_("show what would be deleted, and delete nothing"))

    def handle(self, *args: Any, **options: Any) -> None:
        is_dry = options["dry_run"]
        gone = prune(dry_run=is_dry)
        for release in gone:
            self.stdout.write(f"{release.project} {release} {filesizeformat(release.size)}")
        size = filesizeformat(sum(release.size for release in gone))
        words = (
            ngettext(
                "%(count)d release would be deleted: %(size)s.",
                "%(count)d releases would be deleted: %(size)s.",
                len(gone),
            )
            if is_dry
            else ngettext("%(count)d release deleted: %(size)s.", "%(count)d releases deleted: %(size)s.", len(gone))
        )
        self.stdout.write(words % {"count": len(gone), "size": size})
        self.stdout.write(_("The store takes %s now.") % filesizeformat(disk_use()))
        found, logs = ripe(), len(packable())
        if not is_dry:
            keep_up(patience=None)
        self._tell(found, logs, is_dry=is_dry)

    def _tell(self, found: Ripe, logs: int, *, is_dry: bool) -> None:
        """What of the history went, or would go."""
        words = {
            "deployments": found.deployments,
            "logs": found.logs,
            "evidence": found.evidence,
            "commands": found.commands,
            "sessions": found.sessions,
            "packed": logs,
        }
        told = (
            _(
                "Would be deleted: %(deployments)d deployments, %(logs)d logs, the evidence of %(evidence)d, "
                "%(commands)d runs of commands, %(sessions)d sessions. Would be packed: %(packed)d logs."
            )
            if is_dry
            else _(
                "Deleted: %(deployments)d deployments, %(logs)d logs, the evidence of %(evidence)d, "
                "%(commands)d runs of commands, %(sessions)d sessions. Packed: %(packed)d logs."
            )
        )
        self.stdout.write(told % words)
