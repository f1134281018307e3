"""Values that are had from outside at each deployment: what a source may be, and what of it is run or read.

``NAME`` or ``NAME:ARGUMENT`` runs the command that the settings have under that name, with the argument for its ``{}``.
``file:PATH`` is a file below the folder of the settings, in the one of the project's environment. Nothing else is.
"""

import re
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.utils.translation import gettext as _

#: The name of the sources that are files.
FILE = "file"
#: What stands in a command for the argument.
PLACE = "{}"
_SOURCE = re.compile(r"([a-z][a-z0-9_-]{0,40})(?::([A-Za-z0-9][A-Za-z0-9._/@:+=-]{0,300}))?\Z")


class Source(NamedTuple):
    """A source by its parts; the argument may be empty."""

    name: str
    argument: str


def source_of(text: str) -> Source | None:
    """The parts of a source; nothing where it is none."""
    found = _SOURCE.match(text)
    if found is None or ".." in (found[2] or "").split("/"):
        return None
    return Source(found[1], found[2] or "")


def problem_of(text: str, environment: str) -> str:
    """Why projects of an environment cannot have values from this source, as a sentence; empty where they can.

    Without an ``environment``, why none can.
    """
    source = source_of(text)
    if source is None:
        return _(
            "A source looks like NAME or NAME:ARGUMENT; the argument has letters, digits and . _ / @ : + = - alone."
        )
    if source.name == FILE:
        if settings.DEPLOYER_VALUE_FOLDER is None:
            return _("Files are no sources here: DEPLOYER_VALUE_FOLDER is not set.")
        return "" if source.argument else _("Name the file: file:PATH.")
    command = settings.DEPLOYER_VALUE_COMMANDS.get(source.name)
    if command is None or (environment and command.environments and environment not in command.environments):
        known = ", ".join(known_sources(environment)) or _("none")
        return _("“%(name)s” is no source here. There are: %(known)s.") % {"name": source.name, "known": known}
    if bool(source.argument) != any(PLACE in word for word in command.words):
        if source.argument:
            return _("The source “%s” takes no argument.") % source.name
        return _("The source “%(name)s” takes an argument: %(name)s:ARGUMENT.") % {"name": source.name}
    return ""


def known_sources(environment: str) -> list[str]:
    """The names of the sources that projects of an environment can have values from."""
    commands = settings.DEPLOYER_VALUE_COMMANDS.items()
    names = [
        name for name, each in commands if not (environment and each.environments) or environment in each.environments
    ]
    return sorted([*names, *([FILE] if settings.DEPLOYER_VALUE_FOLDER is not None else [])])


def command_of(source: Source) -> list[str]:
    """The words of its command."""
    words: list[str] = [
        word.replace(PLACE, source.argument) for word in settings.DEPLOYER_VALUE_COMMANDS[source.name].words
    ]
    return words


def file_of(source: Source, environment: str) -> Path | None:
    """The file that it names, wherever links lead; nothing where that is not below its folder."""
    if settings.DEPLOYER_VALUE_FOLDER is None:
        return None
    folder = (settings.DEPLOYER_VALUE_FOLDER / environment).resolve()
    found = (folder / source.argument).resolve()
    return found if found.is_relative_to(folder) else None
