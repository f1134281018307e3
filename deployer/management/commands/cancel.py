"""``manage.py cancel ID``: ask a deployment to stop, as the button does."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.launching.answers import cancel_sentence
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
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        deployment = self.operable(options["id"])
        asked = cancel(deployment, force=options["force"])
        sentence = cancel_sentence(deployment, asked)
        if not asked:
            raise refused(sentence)
        self.stdout.write(sentence)
