"""``deployer lock PROJECT --reason R``: lock a project or an environment, as the page does."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.gates import keeping
from deployer.management.commandline import login_of_machine
from deployer.management.gate_commands import GateCommand
from deployer.models import LONGEST_REASON, Lock


class Command(GateCommand):
    summary = gettext_lazy("Lock a project or an environment: only whoever locks it launches there, by hand.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", required=True, metavar="R", help=_("why; everybody sees it"))
        parser.add_argument("--warn", action="store_true", help=_("launches are not stopped, and show the reason"))
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        reason = " ".join(options["reason"].split())[:LONGEST_REASON]
        lock = Lock(**self.place(options), reason=reason, is_warning=options["warn"])
        keeping.close_lock(lock, self.acting, login_of_machine())
        self.stdout.write(_("%s is locked.") % lock.where)
