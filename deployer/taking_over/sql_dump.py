"""The rows of a dump that mysqldump or mariadb-dump wrote: CREATE TABLE for the columns, INSERT … VALUES for the rows.

Nothing is carried out. Statements of other kinds are passed over as they stand; an INSERT whose values are anything but
texts, numbers and NULL is refused. A dump that was cut off is refused, too: half of it would be taken for all of it.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NoReturn

from django.utils.translation import gettext as _

from deployer.taking_over.taken import NotReadableError

#: Rows that are kept of one dump.
MOST_ROWS = 200_000

_TOKEN = re.compile(
    r"""
      (?P<space>\s++ | --(?=\s|\Z)[^\n]*+ | \#[^\n]*+ | /\*.*?\*/)
    | (?P<text>(?:_[A-Za-z0-9]++\s*+)?'(?:[^'\\]++|\\.|'')*'(?!'))
    | (?P<name>`(?:[^`]++|``)+`(?!`))
    | (?P<hex>0[xX][0-9A-Fa-f]++)
    | (?P<number>[-+]?[0-9]++(?:\.[0-9]*+)?(?:[eE][-+]?[0-9]++)?)
    | (?P<word>[A-Za-z_@\u0080-\uffff][\w@$]*+)
    | (?P<quoted>"(?:[^"\\]++|\\.|"")*"(?!"))
    | (?P<mark>(?!/\*)[^'"`\\])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)
_HEAD = re.compile(r"-- (?:MySQL|MariaDB) dump ")
_END = "-- Dump completed"


@dataclass
class Table:
    """The rows of a table, by column: texts as they were, numbers as text, None for NULL. ``number``: all of them,
    also where none is kept."""

    rows: list[dict[str, str | None]] = field(default_factory=list)
    number: int = 0


def read(text: str, wanted: Collection[str]) -> dict[str, Table]:
    """The tables that have rows; those of the ``wanted`` ones with their rows. Raises `NotReadableError`."""
    if _HEAD.search(text[:1000]) and _END not in text[-1000:]:
        raise _cut_off()
    return _Reader(text, wanted).read()


def _cut_off() -> NotReadableError:
    return NotReadableError(_("The dump is cut off: its end is missing. Make it again."))


class _Reader:
    """Goes through the statements of a dump once."""

    def __init__(self, text: str, wanted: Collection[str]) -> None:
        self._text = text
        self._wanted = wanted
        self._place = self._begin = 0
        self._kept = 0
        self._columns: dict[str, list[str]] = {}
        self._tables: dict[str, Table] = {}

    def read(self) -> dict[str, Table]:
        while (token := self._next_or_end()) is not None:
            kind, value = token
            word = value.upper() if kind == "word" else ""
            if word == "DELIMITER":
                self._pass_over_program()
            elif word == "CREATE":
                self._create()
            elif word in {"INSERT", "REPLACE"}:
                self._insert()
            elif value != ";":
                self._pass_over()
        return self._tables

    def _next_or_end(self) -> tuple[str, str] | None:
        """Kind and text of the next token that is no space."""
        while self._place < len(self._text):
            match = _TOKEN.match(self._text, self._place)
            if match is None:  # a quotation mark or a comment that is never closed
                raise _cut_off()
            self._begin, self._place = self._place, match.end()
            if match.lastgroup != "space":
                return str(match.lastgroup), match[0]
        return None

    def _next(self) -> tuple[str, str]:
        token = self._next_or_end()
        if token is None:
            raise _cut_off()
        return token

    def _pass_over(self) -> None:
        """The rest of the statement."""
        while self._next()[1] != ";":
            pass

    def _pass_over_program(self) -> None:
        """A trigger or a procedure, whose text ends in another sign until the sign is the semicolon again."""
        end = re.compile(r"^DELIMITER[ \t]+;[ \t]*\r?$", re.MULTILINE | re.IGNORECASE).search(self._text, self._place)
        if end is None:
            raise _cut_off()
        self._place = end.end()

    def _refuse(self, why: str) -> NoReturn:
        line = self._text.count("\n", 0, self._begin) + 1
        raise NotReadableError(_("Line %(line)d of the dump: %(why)s") % {"line": line, "why": why})

    def _name(self, token: tuple[str, str]) -> str:
        """A name; of one with its database before it, its own."""
        while True:
            kind, value = token
            if kind not in {"name", "word"}:
                self._refuse(_("the name of a table or a column was expected."))
            name = value[1:-1].replace("``", "`") if kind == "name" else value
            place = self._place
            if (after := self._next_or_end()) is None or after[1] != ".":
                self._place = place
                return name
            token = self._next()

    def _create(self) -> None:
        """The columns of a table, in their order: what stands first between its commas, unless it is a key."""
        token = self._next()
        if token[1].upper() != "TABLE":
            if token[1] != ";":
                self._pass_over()
            return
        token = self._next()
        if token[1].upper() == "IF":
            for _word in range(3):  # IF NOT EXISTS
                token = self._next()
        columns = self._columns[self._name(token)] = []
        depth, is_first = 0, False
        while (token := self._next())[1] != ";":
            if depth == 1 and is_first and token[0] == "name":
                columns.append(self._name(token))
            is_first = token[1] == "(" if depth == 0 else token[1] == "," and depth == 1
            depth += {"(": 1, ")": -1}.get(token[1], 0) if token[0] == "mark" else 0

    def _insert(self) -> None:
        token = self._next()
        while token[0] == "word" and token[1].upper() in {"INTO", "IGNORE", "DELAYED", "LOW_PRIORITY"}:
            token = self._next()
        name = self._name(token)
        token = self._next()
        columns = self._columns.get(name, [])
        if token[1] == "(":
            columns, token = self._listed(), self._next()
        if token[1].upper() not in {"VALUES", "VALUE"}:
            self._refuse(_("only INSERT … VALUES is read."))
        if not columns:
            self._refuse(_("the columns of “%s” are not known: make the dump with its CREATE TABLE.") % name[:64])
        table = self._tables.setdefault(name, Table())
        while True:
            self._row(table, columns, name in self._wanted)
            after = self._next()[1]
            if after == ";":
                return
            if after != ",":
                self._refuse(_("only INSERT … VALUES is read."))

    def _listed(self) -> list[str]:
        columns = [self._name(self._next())]
        while (token := self._next())[1] == ",":
            columns.append(self._name(self._next()))
        if token[1] != ")":
            self._refuse(_("the name of a table or a column was expected."))
        return columns

    def _row(self, table: Table, columns: list[str], is_kept: bool) -> None:
        if self._next()[1] != "(":
            self._refuse(_("only INSERT … VALUES is read."))
        values = [self._value()]
        while (token := self._next())[1] == ",":
            values.append(self._value())
        if token[1] != ")":
            self._refuse(_("a value is no text, no number and not NULL."))
        if len(values) != len(columns):
            self._refuse(_("a row has another number of values than the table has columns."))
        table.number += 1
        if is_kept:
            self._kept += 1
            if self._kept > MOST_ROWS:
                raise NotReadableError(_("There are more than %d rows in it.") % MOST_ROWS)
            table.rows.append(dict(zip(columns, values, strict=True)))

    def _value(self) -> str | None:
        kind, value = self._next()
        if kind == "text":
            text = value[value.index("'") + 1 : -1]
            return _ESCAPE.sub(lambda each: _ESCAPED.get(each[1], each[1]) if each[1] else "'", text)
        if kind == "number":
            return value
        if kind == "hex":
            return bytes.fromhex("0" * (len(value) % 2) + value[2:]).decode("utf-8", "replace")
        words = {"NULL": None, "TRUE": "1", "FALSE": "0"}
        if kind != "word" or value.upper() not in words:
            self._refuse(_("a value is no text, no number and not NULL."))
        return words[value.upper()]
