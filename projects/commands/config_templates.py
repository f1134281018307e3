"""Config files as templates: ``{{ NAME }}`` and ``{{ NAME | filter }}``, and nothing else that could compute something.

An expression begins with ``{{`` and a letter. What begins otherwise is left as it is: Prometheus, Helm and Go write
``{{ $value }}``, ``{{ .Values.port }}`` and ``{{- end }}``. A ``{{`` before a letter that is meant as it stands is
written ``{{ '{{' }}``.
"""

import json
import re
from collections.abc import Callable, Mapping
from shlex import quote
from typing import NamedTuple

from django.utils.translation import gettext as _

_BEGIN = re.compile(r"\{\{[ \t]*(?='\{\{'|[A-Za-z_])")
_EXPRESSION = re.compile(
    r"\{\{[ \t]*(?:'(?P<literal>\{\{)'|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:[ \t]*\|[ \t]*(?P<filter>[A-Za-z_]+))?)"
    r"[ \t]*\}\}"
)
#: Characters of an expression that an error shows.
_SHOWN = 60
#: Values that mean the same in a shell, in systemd's files and in each reader of a ``.env``.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*\Z")
#: What YAML 1.1 and 1.2 take for a line break or do not print, and JSON does.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")


class TemplateError(ValueError):
    """A template that cannot be filled in: what is wrong, on which ``line``."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(_("line %(line)d: %(what)s") % {"line": line, "what": what})
        self.line = line
        self.what = what


class Part(NamedTuple):
    """A piece of a template: ``text`` as it stands, else the value of ``name`` through ``filter``."""

    text: str
    name: str = ""
    filter: str = ""
    line: int = 1


def as_json(value: str) -> str:
    """A JSON string, its quotes included."""
    return json.dumps(value, ensure_ascii=False)


def as_yaml(value: str) -> str:
    """A YAML string in double quotes, whatever it looks like."""
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", as_json(value))


def as_env(value: str) -> str:
    """A value of a ``.env`` file or of systemd's EnvironmentFile; quoted where it has to be.

    Single quotes mean the same to all of their readers. Where the value has one itself, or a backslash, it is written
    as a shell and systemd read it in double quotes.
    """
    if _PLAIN.match(value):
        return value
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


FILTERS: Mapping[str, Callable[[str], str]] = {"json": as_json, "yaml": as_yaml, "shell": quote, "env": as_env}


def parse(text: str) -> list[Part]:
    """A template in its pieces. Raises `TemplateError` for an expression that is none, and for an unknown filter."""
    parts: list[Part] = []
    at = 0
    while begin := _BEGIN.search(text, at):
        line = text.count("\n", 0, begin.start()) + 1
        found = _EXPRESSION.match(text, begin.start())
        if found is None:
            shown = text[begin.start() : begin.start() + _SHOWN].partition("\n")[0]
            raise TemplateError(
                line,
                _("“%s” is no expression: write {{ NAME }} or {{ NAME | filter }}, and {{ '{{' }} for {{ itself")
                % shown,
            )
        parts.append(Part(text[at : begin.start()] + (found["literal"] or "")))
        if found["name"]:
            if found["filter"] and found["filter"] not in FILTERS:
                words = {"filter": found["filter"], "filters": ", ".join(FILTERS)}
                raise TemplateError(line, _("there is no filter “%(filter)s”: choose one of %(filters)s") % words)
            parts.append(Part("", found["name"], found["filter"] or "", line))
        at = found.end()
    return [*parts, Part(text[at:])]


def names(text: str) -> dict[str, int]:
    """The names that a template uses, each with the line where it stands first. Raises `TemplateError`."""
    found: dict[str, int] = {}
    for part in parse(text):
        if part.name:
            found.setdefault(part.name, part.line)
    return found


def render(text: str, values: Mapping[str, str]) -> str:
    """A template filled in. Raises `TemplateError`, also for a name that has no value."""
    return "".join(_value(part, values) if part.name else part.text for part in parse(text))


def _value(part: Part, values: Mapping[str, str]) -> str:
    if part.name not in values:
        raise TemplateError(part.line, undefined(part.name))
    value = values[part.name]
    return FILTERS[part.filter](value) if part.filter else value


def undefined(name: str) -> str:
    """What is wrong with a name that has no value."""
    return _("“%s” is not defined: it is no variable of the deployment, and no fact of it or of the server") % name
