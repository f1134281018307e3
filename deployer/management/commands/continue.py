"""``deployer continue ID``: continue a deployment that is paused after a batch, as the button does."""  # noqa: N999 (a command may be called so)

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.launching.answers import continue_sentence
from deployer.launching.moves import go_on
from deployer.management.commandline import WatchingCommand, refused


class Command(WatchingCommand):
    summary = gettext_lazy("Continue a deployment that is paused after a batch.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("the number of the deployment"))
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        self.to_stderr = options["json"]
        deployment = self.operable(options["id"])
        continued = go_on(deployment)
        sentence = continue_sentence(deployment, continued)
        if not continued:
            raise refused(sentence)
        self.say(sentence)
        deployment.paused_at = None
        self.report(deployment, options)
