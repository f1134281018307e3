"""``manage.py retry ID``: launch the same again for the servers that did not succeed, as the button does."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.launching.again import retry_failed
from deployer.launching.rules import LaunchRefusedError
from deployer.management.commandline import WatchingCommand, existing, refused
from deployer.models import Deployment


class Command(WatchingCommand):
    summary = gettext_lazy(
        "Launch a deployment again, for the servers that did not succeed: the same type, the same commit or release."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("the number of the deployment"))
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        self.to_stderr = options["json"]
        earlier = existing(options["id"])
        try:
            launched = retry_failed(earlier, created_by=None, trigger=Deployment.Trigger.CLI)
        except LaunchRefusedError as error:
            raise refused(error.message) from error
        self.report(launched, options)
