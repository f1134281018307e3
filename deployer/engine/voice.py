"""What is said of one server: in the log, and beside it on the page."""

from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.log.writing import Log
from deployer.models import Target


class Voice:
    """The log of a deployment, on one of its servers."""

    def __init__(self, log: Log, target: Target) -> None:
        self.log = log
        self.target = target

    def say(self, sentence: str) -> None:
        self.log.say(sentence, self.target)

    def warn(self, sentence: str) -> None:
        self.log.warn(sentence, self.target)

    def error(self, sentence: str) -> None:
        self.log.error(sentence, self.target)

    def report(self, progress: str) -> None:
        """Show how far the upload is, in the log and beside the server."""
        self.say(_("Uploading: %s") % progress)
        insist(lambda: Target.objects.filter(pk=self.target.pk).update(progress=progress))
