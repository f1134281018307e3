"""``deployer approve ID --as USER``: approve what waits, or ``--reject`` it, as the page does."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.gates import deciding
from deployer.management.commandline import ActingCommand, existing, login_of_machine, refused
from deployer.models import Deployment
from deployer.queue.turn import call_up


class Command(ActingCommand):
    summary = gettext_lazy(
        "Approve a deployment that waits, for the user of --as. Nobody approves what they have launched, neither under "
        "another name from the same login of this machine."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("the number of the deployment"))
        parser.add_argument("--reason", default="", metavar="R", help=_("why; needed to reject it"))
        parser.add_argument("--reject", action="store_true", help=_("end it instead"))
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        if self.acting is None:
            raise refused(_("An approval is a person's: name them with --as."))
        it = existing(options["id"], Deployment.objects.reached_by(self.acting))
        if it.trigger == Deployment.Trigger.CLI and it.launched_for == login_of_machine():
            raise refused(_("It was launched from this login: somebody else has to approve it."))
        try:
            (deciding.reject if options["reject"] else deciding.approve)(it, self.acting, options["reason"])
        except deciding.CannotDecideError as error:
            raise refused(str(error)) from error
        call_up(it.project_id)
        self.stdout.write(_("Your decision about #%d is written down.") % it.pk)
