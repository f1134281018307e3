"""``deployer cancel ID``: ask a deployment to stop, as the button does."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.launching.answers import cancel_sentence, no_way_back
from deployer.launching.moves import cancel
from deployer.management.commandline import ActingCommand, refused


class Command(ActingCommand):
    summary = gettext_lazy(
        "Cancel a deployment: work that has begun on a server is finished (or ended, with --force), the rest is not "
        "started."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("the number of the deployment"))
        parser.add_argument("--force", action="store_true", help=_("also end the scripts that are running on servers"))
        parser.add_argument(
            "--roll-back", action="store_true", help=_("also put back what it has switched on its servers")
        )
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        deployment = self.operable(options["id"])
        if options["roll_back"] and (why := no_way_back(deployment)):
            raise refused(why)
        asked = cancel(deployment, force=options["force"], roll_back=options["roll_back"])
        sentence = cancel_sentence(deployment, asked)
        if not asked:
            raise refused(sentence)
        self.stdout.write(sentence)
