"""Values from outside: had once for each deployment, before its first server is touched, and stored nowhere."""

import os
import stat
from shlex import quote

from django.conf import settings
from django.utils.translation import gettext as _

from deployer.engine.work import Work
from deployer.plan import Plan
from deployer.releases.isolation import BuildRoom, isolation
from deployer.releases.workfolders import WorkFolder
from projects.outside import FILE, Source, command_of, file_of, problem_of, source_of
from servers.errors import NotReadyError, ScriptTimeoutError
from servers.local import LocalShell
from servers.sentences import last_words
from servers.shell import STDOUT, Script

#: Seconds that a command may take, and bytes of a value.
LIMIT, MOST = 60, 65_536


def fetch_values(work: Work, plan: Plan | None = None) -> None:
    """Have the values of all sources of this deployment, or of another ``plan``; each once.

    Raises a `ShellError` that names the variable and the source, and never a value.
    """
    wanted: dict[str, list[str]] = {}
    for each in (plan or work.plan).values.sourced:
        if each.source not in work.outside:
            wanted.setdefault(each.source, []).append(each.name)
    for text, names in wanted.items():
        work.check()
        value = _value(work, text, ", ".join(dict.fromkeys(names)))
        work.learn([value])
        work.outside[text] = value
        work.log.say(_("Had %(names)s from %(source)s") % {"names": ", ".join(dict.fromkeys(names)), "source": text})


def _value(work: Work, text: str, names: str) -> str:
    environment = work.plan.environment
    source = source_of(text)
    if source is None or (problem := problem_of(text, environment)):
        raise _failed(names, text, problem if source else _("it is no source"))
    data = _read(source, environment, names) if source.name == FILE else _run(work, source, names, text)
    try:
        value = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise _failed(names, text, _("it gave something else than text in UTF-8")) from error
    if not value or "\0" in value:
        raise _failed(names, text, _("it gave nothing") if not value else _("it gave a NUL character"))
    return value


def _read(source: Source, environment: str, names: str) -> bytes:
    path = file_of(source, environment)
    if path is None:
        raise _failed(names, f"{FILE}:{source.argument}", _("it leads out of its folder"))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _failed(names, f"{FILE}:{source.argument}", _("it is no plain file"))
            data = file.read(MOST + 1)
    except OSError as error:
        raise _failed(names, f"{FILE}:{source.argument}", error.strerror or str(error)) from error
    if len(data) > MOST:
        raise _failed(names, f"{FILE}:{source.argument}", _("it has more than %d bytes") % MOST)
    return data


def _run(work: Work, source: Source, names: str, text: str) -> bytes:
    """What its command writes, run on this machine like a build: apart from it, with the variables of the settings."""
    apart = isolation()
    if apart.is_refused:
        raise NotReadyError(_("A command was refused: %s") % apart.told(), apart.reason(), apart.remedy())
    said: dict[str, bytes] = {}

    def take(stream: str, data: bytes) -> None:
        said[stream] = said.get(stream, b"") + data
        if stream != STDOUT:
            said[stream] = said[stream][-MOST:]
        elif len(said[stream]) > MOST:
            raise _failed(names, text, _("it gave more than %d bytes") % MOST)

    with WorkFolder("value", work.deployment.hand) as folder:
        room = BuildRoom(apart, folder.path)
        room.furnish()
        own = {name: os.environ[name] for name in settings.DEPLOYER_VALUE_ENVIRONMENT if name in os.environ}
        command = " ".join(map(quote, command_of(source)))
        shell = LocalShell(work.deployment.hand, room.for_scripts())
        try:
            code = shell.run(
                Script(command, {**room.environment, **own}, room.tree), take, timeout=LIMIT, stop=work.stop
            )
        except ScriptTimeoutError as error:
            raise _failed(names, text, _("it ran longer than %d seconds") % LIMIT) from error
        finally:
            shell.sweep()
    if code:
        words = last_words(work.mask(said.get("stderr", b"").decode(errors="replace")))
        raise _failed(names, text, _("status %d") % code + (f" ({words})" if words else ""))
    return said.get(STDOUT, b"")


def _failed(names: str, text: str, why: str) -> NotReadyError:
    return NotReadyError(_("%(names)s could not be had from %(source)s") % {"names": names, "source": text}, why)
