"""``manage.py rollback ID``: launch the release that was live before a deployment, as the button does."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.launching.again import roll_back
from deployer.launching.rules import LaunchRefusedError
from deployer.management.commandline import WatchingCommand, existing, refused
from deployer.models import Deployment


class Command(WatchingCommand):
    summary = gettext_lazy("Launch the release that was live before a deployment: nothing is cloned or built.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("the number of the deployment"))
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        self.to_stderr = options["json"]
        earlier = existing(options["id"])
        try:
            launched = roll_back(earlier, created_by=None, trigger=Deployment.Trigger.CLI)
        except LaunchRefusedError as error:
            raise refused(error.message) from error
        self.report(launched, options)
