"""Scripts on this machine, for a deployment: their output goes to its log, and a failing one is explained."""

import signal
from collections.abc import Mapping

from django.conf import settings
from django.utils.translation import gettext as _

from deployer.engine.work import Work
from deployer.releases.isolation import Isolation, isolation
from servers.errors import ScriptTimeoutError, ShellError
from servers.isolation import LimitError
from servers.local import LocalShell
from servers.sentences import because, last_words, sentences
from servers.shell import Script


class BuildError(ShellError):
    """The code could not be fetched, built or packed."""


class ScriptFailedError(BuildError):
    """A script ended with a status that nobody has explained; ``said`` is the end of its error output."""

    def __init__(self, said: str, *words: str) -> None:
        super().__init__(*words)
        self.said = said


def end_leftovers(work: Work, shell: LocalShell) -> None:
    """End what scripts have left running, and say so."""
    if left := shell.sweep():
        work.log.warn(_("Ended %d processes that the build had left running") % left)


#: By the name of a limit, its setting.
_SETTINGS = {
    "memory": "DEPLOYER_BUILD_MEMORY_MB",
    "processes": "DEPLOYER_BUILD_PROCESSES",
    "disk": "DEPLOYER_BUILD_DISK_MB",
    "free": "DEPLOYER_KEEP_FREE_MB",
}
#: The status of a script that was killed because a file of it grew too large.
_FILE_TOO_LARGE = 128 + signal.SIGXFSZ
#: Bytes of the error output that are remembered: its cause may stand far above its end.
_REMEMBERED = 16_000


def run_here(
    work: Work, shell: LocalShell, script: Script, what: str, explained: Mapping[int, BuildError] | None = None
) -> None:
    """Run one script with its output in the log; a failing one is a `BuildError` with its last words.

    ``explained``: the errors of statuses that mean something.
    """
    output = work.log.output()
    last: list[bytes] = []

    def take(stream: str, data: bytes) -> None:
        output(stream, data)
        if stream == "stderr":
            last[:] = [(b"".join(last) + data)[-_REMEMBERED:]]

    try:
        code = shell.run(script, take, timeout=work.plan.script_timeout, stop=work.stop, room=work.log.room)
    except ScriptTimeoutError as error:
        raise BuildError(
            what,
            _("it ran longer than its limit of %d seconds and was ended") % work.plan.script_timeout,
            _("Raise script_timeout if it needs longer."),
        ) from error
    except LimitError as error:
        raise over(what, error) from error
    finally:
        output.finish()
    if explained and code in explained:
        raise explained[code]
    if code == _FILE_TOO_LARGE:
        raise _over(what, _("a file of it became larger than it may"), _SETTINGS["disk"])
    if code:
        said = work.log.mask(b"".join(last).decode(errors="replace"))
        words = last_words(said)
        raise ScriptFailedError(said, what, _("status %d") % code + (f" ({words})" if words else ""))


def over(what: str, error: LimitError) -> BuildError:
    """The end of a script that was ended because it took more than it may."""
    return _over(what, error.what, _SETTINGS[error.limit])


def tell_isolation(work: Work, refused: str) -> Isolation:
    """How scripts are kept apart here, with a warning where that falls short.

    Raises a `BuildError` that begins with ``refused`` where the settings want more than can be had.
    """
    apart = isolation()
    if apart.is_refused:
        raise BuildError(refused % apart.told(), apart.reason(), apart.remedy())
    if apart.falls_short:
        work.log.warn(sentences(because(apart.told(), apart.reason()), apart.remedy()))
    return apart


def _over(what: str, why: str, setting: str) -> BuildError:
    """The end of a script that took more than it may."""
    remedy = _("Correct the build, or change %(setting)s.") % {"setting": setting}
    return BuildError(what, f"{why} ({setting}={getattr(settings, setting)})", remedy)
