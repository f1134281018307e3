"""Short scripts of our own on a server, and what their failures mean."""

from collections.abc import Container
from shlex import quote

from django.utils.translation import gettext as _

from projects.commands import release as release_commands
from servers.errors import TransferError
from servers.ssh.shell import Output, SSHShell

#: The most that is printed, unless it is a list of files: so much for each of them, and for what an application adds.
LIMIT, FOR_A_FILE = 1 << 20, 600


class Commands:
    """Runs short scripts over ``link`` that work on ``deploy_path``, each for at most ``timeout`` seconds."""

    def __init__(self, link: SSHShell, deploy_path: str, timeout: float) -> None:
        self.link = link
        self.deploy_path = deploy_path
        self.timeout = timeout

    def capture(self, text: str, what: str, fine: Container[int] = (0,), files: int = 0) -> str:
        """Run ``text`` and give what it printed; another status than ``fine`` is a `TransferError`.

        ``files`` is how many of them the answer may be about.
        """
        limit = LIMIT + files * FOR_A_FILE
        return self.accept(self.link.capture(text, timeout=self.timeout, limit=limit), what, fine)

    def accept(self, answer: Output, what: str, fine: Container[int] = (0,)) -> str:
        """What ``answer`` printed if its status is one of ``fine``; else a `TransferError` that says why."""
        if answer.code in fine:
            return answer.stdout
        reason = release_commands.REASONS.get(answer.code)
        lines = answer.stderr.strip()[-LIMIT:].splitlines()
        detail = " / ".join(lines[:2])[:500]
        if reason:
            values = {"path": self.deploy_path, "named": "".join(lines[-1:])[:300]}
            why = reason[0] % values
            if detail and values["named"] not in why:
                why += f" ({detail})"
            raise TransferError(what, why, reason[1] % values)
        raise TransferError(what, detail or _("status %d") % answer.code)

    def need_script(self, path: str) -> None:
        """Refuse to go on without the script: a restart that cannot work must not be begun."""
        found = self.link.capture(f"[ -f {quote(path)} ] || exit 4; [ -r {quote(path)} ] || exit 5").code
        if found:
            raise TransferError(
                _("The restart was not started"),
                (_("the script %s does not exist") if found == 4 else _("the script %s cannot be read")) % path,
                _("Correct deploy_script_path in the project, or put the script there."),
            )
