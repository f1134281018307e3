"""``deployer rollback ID``: launch the release that was live before a deployment, as the button does."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.launching.again import launch_rollback
from deployer.management.commandline import LaunchAgain
from deployer.models import Deployment


class Command(LaunchAgain):
    summary = gettext_lazy("Launch the release that was live before a deployment: nothing is cloned or built.")

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--former-values",
            action="store_true",
            help=_("with the variables, config files and steps that went with that release, not those of today"),
        )

    def more(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"former_values": options["former_values"]}

    def launch_from(self, earlier: Deployment, **chosen: Any) -> Deployment:
        return launch_rollback(earlier, **self.launcher, **chosen)
