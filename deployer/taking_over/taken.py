"""What was taken over of another tool's things, what was not, and why: as sections of YAML with notes at their head.

Every value passes the validators of the model that it is meant for; what they refuse is left out, and said. Of a secret
only the name of an environment variable is written, from which `deployer apply` takes it.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import chain, count
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _

from deployer.declaring import strict_yaml
from deployer.declaring.export import as_text
from deployer.declaring.reading import PARTS, SECTIONS, declared_fields
from projects.dotenv import looks_secret
from projects.models import Variable
from servers.imports.listing import visible
from servers.models import Environment

#: Bytes of a file that is read.
MOST_BYTES = 64 * 2**20
#: Sentences about what was left out that are told.
MOST_NOTES = 1000
_LONGEST_NAME, _LONGEST_WHY = 100, 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
#: How the name of an environment begins, or (Chinese) what is in it. What comes first is asked first.
_WORDS = {
    Environment.STAGING: ("pre", "stag", "stg", "uat", "beta", "预", "灰度"),
    Environment.PRODUCTION: ("prod", "prd", "live", "online", "生产", "线上", "正式"),
    Environment.DEVELOPMENT: ("dev", "test", "qa", "local", "sandbox", "开发", "测试"),
}
#: Fields whose values may have a password in them: what is wrong with one is said without it.
_UNQUOTED = frozenset({"git_url", "value"})


class NotReadableError(Exception):
    """A file is not what it was said to be, or too large, or cut off; the message says how, and quotes no value."""


def text_of(data: bytes) -> str:
    """The text of a file. Raises `NotReadableError`."""
    if len(data) > MOST_BYTES:
        raise NotReadableError(_("It is larger than %d MB.") % (MOST_BYTES >> 20))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotReadableError(_("It is not text in UTF-8.")) from error
    if "\0" in text:
        raise NotReadableError(_("It is not text: it contains NUL characters."))
    return text


def environment_of(*names: str | None) -> Environment | None:
    """The environment that one of ``names`` says; nothing where none does."""
    for name in filter(None, names):
        tokens = re.split(r"[^a-z]+", name.lower())
        for environment, words in _WORDS.items():
            if any(name.find(word) >= 0 if not word.isascii() else _begins(tokens, word) for word in words):
                return environment
    return None


def _begins(tokens: Iterable[str], word: str) -> bool:
    return any(token.startswith(word) for token in tokens)


class Taken:
    """Collects the rows of each section of the YAML, and the notes."""

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self.told: list[str] = []
        self.left: list[str] = []
        self._sections: dict[str, list[dict[str, Any]]] = {name: [] for name in SECTIONS}
        self._names: dict[str, set[str]] = {}
        self._secrets: dict[str, str] = {}

    def tell(self, sentence: str) -> None:
        """Something to know about what was taken over."""
        if sentence not in self.told:
            self.told.append(sentence)

    def leave(self, what: str, why: str) -> None:
        """Something that was not taken over."""
        self.left.append(_("%(what)s: %(why)s") % {"what": what, "why": why})

    def name(self, section: str, wanted: str, fallback: str) -> str:
        """A name that no other row of the section has: the one that is ``wanted``, on one line, or one like it."""
        plain = _CONTROL.sub(" ", _text(wanted)).strip()[: _LONGEST_NAME - 5].strip() or fallback
        names = self._names.setdefault(section, set())
        free = next(each for each in chain([plain], (f"{plain} {number}" for number in count(2))) if each not in names)
        names.add(free)
        if free != wanted:
            self.tell(_("“%(old)s” is called “%(new)s” here.") % {"old": visible(wanted), "new": visible(free)})
        return free

    def add(self, section: str, values: Mapping[str, Any]) -> bool:
        """Add a row of a section, of values that its model accepts; of a row that needs others it says that."""
        row = self._fitting(SECTIONS[section], values, str(values["name"]))
        if row is not None:
            self._sections[section].append(row)
        return row is not None

    def has(self, section: str) -> list[str]:
        """The names of the rows of a section."""
        return [str(row["name"]) for row in self._sections[section]]

    def secret(self, *about: str, purpose: str) -> str:
        """The name of an environment variable for a secret that was not taken over."""
        wanted = re.sub(r"[^A-Z0-9]+", "_", "_".join(about).upper()).strip("_") or "SECRET"
        wanted = wanted if wanted[0].isalpha() else f"{self.tool.upper()}_{wanted}"
        names = chain([wanted], (f"{wanted}_{number}" for number in count(2)))
        free = next(name for name in names if name not in self._secrets)
        self._secrets[free] = purpose
        return free

    def variables(
        self, owner: str, values: Iterable[tuple[str, Any]], model: type[models.Model] = Variable
    ) -> list[dict[str, Any]]:
        """Variables, each name once (the last counts); of what looks like a secret the value is not taken over."""
        found: dict[str, dict[str, Any]] = {}
        for name, value in values:
            text = _plain(value)
            what = _("variable “%(name)s” of “%(owner)s”") % {"name": visible(name), "owner": visible(owner)}
            if text is None:
                self.leave(what, _("its value is no text."))
                continue
            row: dict[str, Any] = {"name": name, "value": text}
            if self._fitting(model, row, what) != row:
                continue
            if looks_secret(name, text):
                purpose = _("%s: a secret, by its name or its value") % what
                row = {"name": name, "value_env": self.secret(owner, name, purpose=purpose), "is_secret": True}
            found.pop(name, None)
            found[name] = row
        return [*found.values()]

    def _fitting(self, model: type[models.Model], values: Mapping[str, Any], what: str) -> dict[str, Any] | None:
        """Those of ``values`` that the model accepts; nothing where one that it needs is none of them."""
        fields, parts, row = declared_fields(model), PARTS.get(model, {}), dict[str, Any]()
        for name, value in values.items():
            if name in parts:
                each_of = (self._fitting(parts[name], each, f"{what}: {each.get('name', name)}") for each in value)
                row[name] = [each for each in each_of if each is not None]
                continue
            field = fields.get(name)
            why = _objection(field, name, value) if field is not None else ""
            if not why:
                row[name] = value
                continue
            self.leave(f"{visible(what)}, {name}", why)
            if field is not None and not field.blank and not field.has_default():
                return None
        return row

    def as_yaml(self) -> str:
        """The file. Raises `NotReadableError` if it is too large to be applied."""
        body = as_text({name: rows for name, rows in self._sections.items() if rows}, self.notes)
        try:
            strict_yaml.load(body.encode())
        except strict_yaml.NotYamlError as error:
            raise NotReadableError(_("What it becomes cannot be applied: %s.") % visible(str(error))) from error
        return body

    @property
    def notes(self) -> list[str]:
        """What the head of the file says: what to do first, what to know, and what was left out."""
        found = [_("Taken over from %s. Look through it, then: deployer apply --dry-run FILE") % self.tool]
        if self._secrets:
            found.append(_("No password and no key was taken over. Set these environment variables first:"))
            found += [f"  {name}: {_one_line(purpose)}" for name, purpose in self._secrets.items()]
        for head, sentences in ((_("To know:"), self.told), (_("Not taken over:"), self.left)):
            if sentences:
                found += [head, *(f"  {sentence}" for sentence in sentences[:MOST_NOTES])]
            if len(sentences) > MOST_NOTES:
                found.append(_("  and %d more") % (len(sentences) - MOST_NOTES))
        return found


def _text(value: Any) -> str:
    """A text that UTF-8 can hold: of half a character, a question mark."""
    return str(value).encode("utf-8", "replace").decode()


def _plain(value: Any) -> str | None:
    """A text, a number or a truth of JSON as a variable has it; nothing for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def _objection(field: Any, name: str, value: Any) -> str:
    """Why the model does not take a value; empty where it does."""
    if isinstance(value, str) and _text(value) != value:
        return _("it contains half a character.")
    if isinstance(value, str) and "\0" in value:
        return _("it contains a NUL character.")
    if isinstance(field, models.ForeignKey | models.ManyToManyField):
        return ""
    try:
        field.clean(value, None)
    except ValidationError as error:
        if name in _UNQUOTED and any("value" in (each.params or ()) for each in error.error_list):
            return _("deployer does not take this value.")
        return _one_line(" ".join(error.messages))
    return ""


def _one_line(text: str) -> str:
    """A sentence with a value of the file in it, on one line."""
    plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return plain if len(plain) <= _LONGEST_WHY else f"{plain[:_LONGEST_WHY]}…"
