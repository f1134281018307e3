"""The commands that give values of variables from outside, as the settings register them."""

import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
#: The name of the sources that are files.
_TAKEN = "file"


class ValueCommand(NamedTuple):
    """A command, ``{}`` in the place of the argument, and the environments whose projects may use it; none: all."""

    words: tuple[str, ...]
    environments: tuple[str, ...] = ()


def value_commands(text: str, environments: tuple[str, ...]) -> dict[str, ValueCommand]:
    """Those of ``{"NAME": "command {}", "NAME": {"command": "...", "environments": ["production"]}}``, a JSON object.

    Raises `ImproperlyConfigured`; no sentence repeats a command, for it may hold a secret.
    """
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"DEPLOYER_VALUE_COMMANDS must be a JSON object: {error}.") from error
    if not isinstance(found, dict):
        raise ImproperlyConfigured("DEPLOYER_VALUE_COMMANDS must be a JSON object: names with commands.")
    return {name: _command(name, given, environments) for name, given in found.items()}


def _command(name: str, given: Any, known: tuple[str, ...]) -> ValueCommand:
    if not _NAME.match(name) or name == _TAKEN:
        raise ImproperlyConfigured(
            f"A name in DEPLOYER_VALUE_COMMANDS has small letters, digits, - and _, and is not “{_TAKEN}”: {name!r}."
        )
    values = {"command": given} if isinstance(given, str) else given
    if not isinstance(values, dict) or not values.keys() <= {"command", "environments"}:
        raise ImproperlyConfigured(
            f"“{name}” in DEPLOYER_VALUE_COMMANDS must have a command, and may have environments."
        )
    command, environments = values.get("command"), values.get("environments", [])
    try:
        words = tuple(shlex.split(command)) if isinstance(command, str) else ()
    except ValueError:
        words = ()
    if not words or "{}" in words[0] or sum(word.count("{}") for word in words) > 1:
        raise ImproperlyConfigured(
            f"The command of “{name}” in DEPLOYER_VALUE_COMMANDS must be a program with arguments, {{}} at most once."
        )
    if not isinstance(environments, list) or not {*environments} <= {*known}:
        raise ImproperlyConfigured(
            f"The environments of “{name}” in DEPLOYER_VALUE_COMMANDS must be of {', '.join(known)}."
        )
    return ValueCommand(words, tuple(environments))


def value_environment(text: str) -> tuple[str, ...]:
    """The names of DEPLOYER_VALUE_ENVIRONMENT, separated by commas. Raises `ImproperlyConfigured`."""
    names = tuple(name for each in text.split(",") if (name := each.strip()))
    if wrong := [name for name in names if not _VARIABLE.match(name) or name.startswith("DEPLOYER_")]:
        raise ImproperlyConfigured(
            f"DEPLOYER_VALUE_ENVIRONMENT must be names of variables that are not deployer's own, not {wrong[0]!r}."
        )
    return names


def value_folder(text: str) -> Path | None:
    """The folder of DEPLOYER_VALUE_FOLDER. Raises `ImproperlyConfigured`."""
    if not text:
        return None
    folder = Path(text)
    if not folder.is_absolute() or not folder.is_dir():
        raise ImproperlyConfigured(f"DEPLOYER_VALUE_FOLDER must be a folder that is there, not {text!r}.")
    return folder
