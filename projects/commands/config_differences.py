"""How one text of a config file differs from another, line by line; nothing of a secret is in what is shown."""

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import NamedTuple

from projects.commands.config_templates import FILTERS, parse

MASK = "••••••"
#: Lines around a change that are shown, and lines of one difference.
AROUND, MOST = 3, 400
#: Lines of a text that are compared at all, and of two texts from which on frequent ones are passed over.
_LONGEST, _SLOW = 20_000, 4_000
#: What a line gives to a name: the name, what stands between, and the value.
_ASSIGNED = re.compile(r"(\s*[^=:]{1,100}[=:]\s*)(.*)")


class Line(NamedTuple):
    """A line of a difference: ``+`` comes, ``-`` goes, a space stays; an empty ``sign`` stands for lines left out."""

    sign: str
    text: str = ""


class Difference(NamedTuple):
    """The lines that are shown, and how many come and go; ``is_hidden``: they are not to be shown at all."""

    lines: tuple[Line, ...]
    come: int
    go: int
    is_hidden: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.come or self.go)


def compare(
    there: str,
    wanted: str,
    show_there: Callable[[str], str] = str,
    show_wanted: Callable[[int, str], str] = lambda _n, line: line,
) -> Difference:
    """The difference that replacing ``there`` by ``wanted`` makes.

    ``show_there`` says how a line of the one is shown, ``show_wanted`` a line, by its number from 0, of the other.
    """
    old, new = there.splitlines()[:_LONGEST], wanted.splitlines()[:_LONGEST]
    shown: list[Line] = []
    come = go = 0
    matcher = SequenceMatcher(None, old, new, autojunk=len(old) + len(new) > _SLOW)
    for group in matcher.get_grouped_opcodes(AROUND):
        if shown:
            shown.append(Line(""))
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                shown += [Line(" ", show_wanted(n, new[n])) for n in range(new_from, new_to)]
                continue
            shown += [Line("-", show_there(line)) for line in old[old_from:old_to]]
            shown += [Line("+", show_wanted(n, new[n])) for n in range(new_from, new_to)]
            go, come = go + old_to - old_from, come + new_to - new_from
    if there != wanted and not (come or go):  # the line break at the end
        come = go = 1
    return Difference(tuple(shown[:MOST]), come, go)


def hidden(difference: Difference) -> Difference:
    """The same of a secret file: how much differs, and nothing of it."""
    return difference._replace(lines=(), is_hidden=True)


def with_secrets(there: str, template: str, values: Mapping[str, str], secrets: Mapping[str, str]) -> Difference:
    """The difference for a ``template`` in which some ``values`` are ``secrets``: none of those is shown, old or new.

    A line of the server is shown as far as the template has that line without a secret; of any other line, only the
    name that it gives a value to.
    """
    real = _render(template, values)
    masked = _render(template, {**values, **dict.fromkeys(secrets, MASK)})
    difference = compare(there, real)
    if any("\n" in _filtered(part_filter, value) for part_filter, value in _uses(template, secrets)):
        return hidden(difference)
    lines = masked.splitlines()
    patterns = [*_patterns(template, values, secrets)]
    plain = {line for line, shown in zip(real.splitlines(), lines, strict=True) if line == shown}

    def show(line: str) -> str:
        if line in plain:
            return line
        for pattern, shown in patterns:
            if pattern.fullmatch(line):
                return shown
        found = _ASSIGNED.fullmatch(line)
        return f"{found[1]}{MASK}" if found else MASK

    return compare(there, real, show, lambda n, _line: lines[n])


def _render(template: str, values: Mapping[str, str]) -> str:
    return "".join(_filtered(part.filter, values[part.name]) if part.name else part.text for part in parse(template))


def _filtered(name: str, value: str) -> str:
    return FILTERS[name](value) if name else value


def _uses(template: str, secrets: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The filter and the value of each secret that a template uses."""
    for part in parse(template):
        if part.name in secrets:
            yield part.filter, secrets[part.name]


def _patterns(
    template: str, values: Mapping[str, str], secrets: Mapping[str, str]
) -> Iterator[tuple[re.Pattern[str], str]]:
    """What the lines with a secret look like, whatever it is, and how they are shown."""
    pieces: list[tuple[str, str]] = [("", "")]  # the expression and the text of each line
    for part in parse(template):
        if part.name in secrets:
            pattern, shown = pieces.pop()
            pieces.append((f"{pattern}.*", f"{shown}{MASK}"))
            continue
        text = _filtered(part.filter, values[part.name]) if part.name else part.text
        for n, piece in enumerate(text.split("\n")):
            pattern, shown = pieces.pop() if not n else ("", "")
            pieces.append((pattern + re.escape(piece), shown + piece))
    for pattern, shown in pieces:
        if MASK in shown:
            yield re.compile(pattern), shown
