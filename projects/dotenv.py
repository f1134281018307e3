"""A file of variables, like ``.env``, read strictly: what cannot be meant is a mistake with its line, never a guess.

``NAME=value``, also after ``export``; ``#`` begins a comment. A value in single quotes is taken as it is, one in double
quotes knows ``\\n``, ``\\r``, ``\\t``, ``\\"``, ``\\\\`` and ``\\$``; both may go over several lines. Nothing is put in
for ``$NAME``, and nothing is run. No sentence shows a value: it may be a secret.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from projects.validators import validate_variable_name
from servers.validators import validate_no_nul

#: Characters of a file, its variables, and the mistakes that are named.
LONGEST, MOST, MOST_MISTAKES = 200_000, 500, 20
#: Characters of a name that a sentence shows.
_NAME_SHOWN = 100
_BEGINNING = re.compile(r"[ \t]*(?:export[ \t]+)?([^\s=#'\"]+)[ \t]*=[ \t]*")
_QUOTED = {"'": re.compile(r"'([^']*+)'"), '"': re.compile(r'"((?:[^"\\]++|\\.)*)"', re.DOTALL)}
_END = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}
#: Parts of a name that say that its value is a secret.
_SECRET = re.compile(r"PASS|PWD|SECRET|TOKEN|KEY|CREDENTIAL|PRIVATE|SIGNATURE|SALT|DSN|AUTH|COOKIE|CERT", re.IGNORECASE)
_LOGIN = re.compile(r"://[^/\s@]*:[^/\s@]+@")


@dataclass
class Pasted:
    """What was read: values by name, in their order, and the mistakes."""

    values: dict[str, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)


def read(text: str) -> Pasted:
    """What a file says."""
    found = Pasted()
    if len(text) > LONGEST:
        found.mistakes.append(_("It has more than %d characters.") % LONGEST)
        return found
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines: dict[str, int] = {}
    for number, name, value, mistake in _entries(text):
        if not mistake:
            mistake = _objection(name, value)
        if not mistake and name in lines:
            mistake = _("%(name)s is in line %(line)d already.") % {"name": name, "line": lines[name]}
        if mistake:
            found.mistakes.append(_("Line %(line)d: %(mistake)s") % {"line": number, "mistake": mistake})
            if len(found.mistakes) == MOST_MISTAKES:
                return found
            continue
        lines[name] = number
        found.values[name] = value
        if len(found.values) > MOST:
            found.mistakes.append(_("It has more than %d variables.") % MOST)
            return found
    return found


def looks_secret(name: str, value: str) -> bool:
    """Whether a value is better kept as a secret: by its name, or because it is an address with a password."""
    return bool(_SECRET.search(name) or _LOGIN.search(value))


def _entries(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Each variable: the line that it begins in, its name, its value, and what is wrong with it."""
    at, number = 0, 1
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        begin = at
        line = text[at:end].strip()
        if not line or line.startswith("#"):
            at = end + 1
            number += 1
            continue
        name, value, mistake, at = _entry(text, at, end)
        yield number, name, value, mistake
        number += text.count("\n", begin, at)


def _entry(text: str, at: int, end: int) -> tuple[str, str, str, int]:
    """The name, the value and the mistake of the entry at ``at``, whose line ends at ``end``, and where it ends."""
    beginning = _BEGINNING.match(text, at, end)
    if beginning is None:
        return "", "", _("expected NAME=value."), end + 1
    name, start = beginning[1], beginning.end()
    quote = text[start : start + 1]
    if quote not in _QUOTED or start >= end:
        return name, re.split(r"(?:^|[ \t])#", text[start:end], maxsplit=1)[0].strip(), "", end + 1
    quoted = _QUOTED[quote].match(text, start)
    if quoted is None:
        return name, "", _("the quote is not closed."), len(text)
    rest = _END.match(text, quoted.end())
    if rest is None:
        after = text.find("\n", quoted.end())
        return name, "", _("expected nothing behind the closing quote."), len(text) if after < 0 else after + 1
    value = quoted[1]
    if quote == '"':
        value = _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[0]), value)
    return name, value, "", rest.end()


def _objection(name: str, value: str) -> str:
    try:
        validate_variable_name(name[:_NAME_SHOWN] + ("…" if len(name) > _NAME_SHOWN else ""))
        validate_no_nul(value)
    except ValidationError as error:
        return " ".join(error.messages)
    return ""
