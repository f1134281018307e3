"""What can stop a shell, as an operator needs it: the errors that are explained, not merely raised."""

from servers.sentences import because, sentences


class ShellError(Exception):
    """An error of a shell, for an operator: what happened, why, and what to do."""

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what, why, remedy)
        self.what, self.why, self.remedy = what, why, remedy

    def __str__(self) -> str:
        return sentences(because(self.what, self.why), self.remedy)


class NoLinkError(ShellError):
    """There is no link, or none that a command can be run over: nobody knows what goes on over there."""


class UnreachableError(NoLinkError):
    """The machine did not answer as an SSH server."""


class SilentError(UnreachableError):
    """No answer came within the time limit of a login: asking again at once would only wait as long again."""


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


#: After these, nobody knows how far a script on the machine has come.
OUTCOME_UNKNOWN = (RunLostError, NoLinkError)


class NotReadyError(ShellError):
    """A check beforehand found that it would fail; nothing was changed."""


class TransferError(ShellError):
    """Bytes did not arrive whole."""


class StoppedError(ShellError):
    """It was stopped on request."""
