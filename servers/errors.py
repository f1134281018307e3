"""What can stop a shell, as an operator needs it: the errors that are explained, not merely raised."""

from servers.sentences import because, sentences


class ShellError(Exception):
    """Something that stopped a shell, as an operator needs it: what happened, why, and what to do."""

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what, why, remedy)
        self.what, self.why, self.remedy = what, why, remedy

    def __str__(self) -> str:
        return sentences(because(self.what, self.why), self.remedy)


class UnreachableError(ShellError):
    """The machine did not answer as an SSH server."""


class SilentError(UnreachableError):
    """Nothing came back within the time that a login may take: asking again at once would only take it again."""


class LoginRefusedError(ShellError):
    """The machine answered and refused the login."""


class HostKeyChangedError(ShellError):
    """The machine is not the one whose key was pinned."""


class LinkLostError(ShellError):
    """The connection ended while something was going on."""


class ScriptTimeoutError(ShellError):
    """A script ran longer than it may; it and all its children were ended."""


class RunLostError(ShellError):
    """A run left no record of its end: nobody knows whether it worked."""


class NotReadyError(ShellError):
    """A look beforehand found that it cannot work; nothing was changed."""


class TransferError(ShellError):
    """Bytes did not arrive whole."""


class StoppedError(ShellError):
    """It was stopped because somebody asked for it."""
