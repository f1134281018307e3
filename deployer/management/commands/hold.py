"""``deployer hold REASON``: put everything new on hold, and ``--lift`` that again."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.gates import keeping
from deployer.management.commandline import ActingCommand, login_of_machine, refused
from deployer.models import LONGEST_REASON


class Command(ActingCommand):
    summary = gettext_lazy("Put everything new on hold: no deployment begins until --lift. Those that run go on.")

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("reason", nargs="?", metavar="REASON", help=_("why; everybody sees it"))
        what.add_argument("--lift", action="store_true", help=_("let new deployments begin again"))
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        if options["lift"]:
            if not keeping.lift_hold(self.acting):
                raise refused(_("Nothing is on hold."))
            self.stdout.write(_("The hold is lifted."))
        elif keeping.put_on_hold(options["reason"][:LONGEST_REASON], self.acting, login_of_machine()):
            self.stdout.write(_("Everything new is on hold."))
        else:
            raise refused(_("Everything new is on hold already."))
