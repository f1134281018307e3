"""``deployer answer ID``: tell what a deployment that met failures asks, and answer it, as its page does."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.declaring.reading import printable
from deployer.launching.answers import answer_sentence
from deployer.launching.moves import answer, open_question
from deployer.log.terminal import plain
from deployer.management.commandline import WatchingCommand, login_of_machine, refused
from deployer.models import Answer, FailureQuestion


class Command(WatchingCommand):
    summary = gettext_lazy(
        "Show what has failed where a deployment asks how to go on; with an answer and the token that is shown, choose "
        "it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("the number of the deployment"))
        parser.add_argument("answer", nargs="?", choices=Answer.values, help=_("what is chosen"))
        parser.add_argument("--token", default="", metavar="T", help=_("of the failures that the answer is for"))
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        self.to_stderr = options["json"]
        deployment = self.operable(options["id"])
        question = open_question(deployment)
        if question is None:
            raise refused(answer_sentence(deployment, None, won=False))
        if options["answer"] is None:
            self.show(question)
            return
        if not answer(question, options["answer"], options["token"], self.acting, login_of_machine()):
            deployment.refresh_from_db(fields=["paused_at", "asked_at", "status"])
            raise refused(answer_sentence(deployment, question, won=False))
        self.say(answer_sentence(deployment, question, won=True))
        deployment.paused_at = None
        self.report(deployment, options)

    def show(self, question: FailureQuestion) -> None:
        """Print what has failed, and what may be chosen."""
        for failure in question.failures:
            words = [failure["server"], failure["what"], failure["error"]]
            self.say(" | ".join(printable(plain(str(word))) for word in words if word))
            for line in str(failure["evidence"]).splitlines()[-20:]:
                self.say(f"    {printable(plain(line))}")
        for choice in question.choices:
            self.say(f"{choice}: {Answer(choice).label}")
        until = question.until.isoformat(timespec="seconds")
        self.say(
            _("Token: %(token)s. Without an answer it stops at %(until)s.") % {"token": question.token, "until": until}
        )
