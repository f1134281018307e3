"""What can stop a shell, as an operator needs it: the errors that are explained, not merely raised."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError
from django.utils.translation import gettext as _

from servers.sentences import because, printable, sentences, told

logger = logging.getLogger(__name__)

#: Characters of an unexpected error that are shown, and of any part of an error.
_SHOWN, _LONGEST = 200, 4000


class ShellError(Exception):
    """An error of a shell, for an operator: what happened, why, and what to do.

    Servers have a part in the words: whatever they said, it can be stored and shown.
    """

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what, why, remedy)
        self.what, self.why, self.remedy = (told(text)[:_LONGEST] for text in (what, why, remedy))

    def __str__(self) -> str:
        return sentences(because(self.what, self.why), self.remedy)


class NoLinkError(ShellError):
    """There is no link, or none that a command can be run over: nobody knows what goes on over there."""


class UnreachableError(NoLinkError):
    """The machine did not answer as an SSH server."""


class SilentError(UnreachableError):
    """No answer came within the time limit of a login: asking again at once would only wait as long again."""


class ExhaustedError(UnreachableError):
    """This machine has no files or threads left for one more link: it is tried again, and slower, but not in vain."""


class LoginRefusedError(NoLinkError):
    """The machine answered and refused the login."""


class NotBoundError(NoLinkError):
    """The login is not for this machine: nothing of it was sent there."""


class IncompatibleError(NoLinkError):
    """The machine and this one have no algorithm in common."""


class NoSessionError(NoLinkError):
    """The machine is logged in to, and opens no session for a command or does not start it: the link is fine."""


class HostKeyChangedError(NoLinkError):
    """The machine is not the one whose key was pinned."""


class LinkLostError(NoLinkError):
    """The connection ended during the work."""


class ScriptTimeoutError(ShellError):
    """A script exceeded its time limit; it and all its children were ended."""


class RunLostError(ShellError):
    """A run left no record of its end: its outcome is unknown."""


class NonsenseError(ShellError):
    """The machine answered, and the answer makes no sense or has no end: nothing that it says is believed."""


#: After these, nobody knows how far a script on the machine has come.
OUTCOME_UNKNOWN = (RunLostError, NoLinkError, NonsenseError)


class NotReadyError(ShellError):
    """A check beforehand found that it would fail; nothing was changed."""


class TransferError(ShellError):
    """Bytes did not arrive whole."""


class StoppedError(ShellError):
    """It was stopped on request."""


@contextmanager
def explained(server: object) -> Iterator[None]:
    """Within it, an error that nobody has thought of becomes a `NonsenseError` about ``server``, and is logged.

    Most likely, the server has said what nobody has thought of. It stops the work there, and no other's. A database
    that is gone is no server's fault.
    """
    try:
        yield
    except (ShellError, OperationalError, InterfaceError):
        raise
    except Exception as error:
        logger.exception("%s: an answer that could not be dealt with", server)
        raise NonsenseError(
            _("deployer could not deal with what %s answered") % server,
            printable(f"{type(error).__name__}: {error}")[:_SHOWN],
            _("Check the server. The log of the worker says more."),
        ) from error
