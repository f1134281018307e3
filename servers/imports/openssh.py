"""Servers of an OpenSSH client configuration, by the rules of ssh_config(5): the first value of each word wins."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property

from django.utils.translation import gettext as _

from servers.imports.hops import Hop, jumps_of, jumps_of_command
from servers.imports.listing import (
    MAX_SERVERS,
    MAX_VALUE,
    Found,
    Listing,
    UnreadableListingError,
    too_many_servers,
    visible,
)

#: Blocks with wildcards and their patterns; each is compared with each server.
MAX_WILDCARDS = 200
MAX_PATTERNS = 1_000

#: Of these two the one that comes first counts.
_SAME_WORD = {"proxycommand": "proxyjump"}
_TAKEN = {"hostname", "port", "user", "identityfile", "proxyjump", "proxycommand"}
#: Words that make another host of the one that is named, by asking the name servers of the client.
_LOOKED_UP = {"canonicalizehostname"}
_LINE = re.compile(r"([A-Za-z]++)(?:[ \t]*+=[ \t]*+|[ \t]++)(.*)\Z")
#: Hops that are looked up one behind the other among the blocks with wildcards.
_MAX_HOPS = 8


@dataclass
class _Block:
    patterns: list[str]
    options: dict[str, str] = field(default_factory=dict)

    @cached_property
    def has_wildcards(self) -> bool:
        return any(map(_is_wildcard, self.patterns))

    @property
    def names(self) -> list[str]:
        """The servers that it names, wildcards and exceptions left out."""
        return [pattern for pattern in self.patterns if not _is_wildcard(pattern)]

    def fits(self, name: str) -> bool:
        """Whether its options are for the server called ``name``."""
        if any(pattern.match(name[:255]) for pattern in self._exceptions):
            return False
        return any(pattern.match(name[:255]) for pattern in self._rules)

    @cached_property
    def _rules(self) -> list[re.Pattern[str]]:
        return [_compiled(pattern) for pattern in self.patterns if not pattern.startswith("!") and len(pattern) < 256]

    @cached_property
    def _exceptions(self) -> list[re.Pattern[str]]:
        return [_compiled(pattern[1:]) for pattern in self.patterns if pattern.startswith("!") and len(pattern) < 257]


def read(text: str) -> Listing:
    """The servers that the text names, with what its wildcards say about them. Raises `UnreadableListingError`."""
    listing = Listing()
    blocks = _blocks(text, listing)
    general = [(number, block) for number, block in enumerate(blocks) if block.has_wildcards]
    if len(general) > MAX_WILDCARDS:
        raise UnreadableListingError(_("There are more than %d blocks with wildcards in it.") % MAX_WILDCARDS)
    if sum(len(block.patterns) for _number, block in general) > MAX_PATTERNS:
        raise UnreadableListingError(_("There are more than %d patterns in its blocks with wildcards.") % MAX_PATTERNS)
    names = dict.fromkeys(name for block in blocks for name in block.names)
    if len(names) > MAX_SERVERS:
        raise too_many_servers()
    if not names:
        raise UnreadableListingError(_("It contains no servers: a server begins with a line like “Host web-1”."))
    config = _Config(blocks, names)
    for name in names:
        listing.take(config.found(name))
    return listing


class _Config:
    """The blocks of a config, asked for one server after the other."""

    def __init__(self, blocks: list[_Block], names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._general = [(number, block) for number, block in enumerate(blocks) if block.has_wildcards]
        self._own: dict[str, list[tuple[int, _Block]]] = {}
        for number, block in enumerate(blocks):
            for name in [] if block.has_wildcards else dict.fromkeys(block.names):
                self._own.setdefault(name, []).append((number, block))
        self._wildcards_only: dict[str, Found] = {}

    def found(self, name: str) -> Found:
        """What the config says of the server ``name``, and of hops before it that have no block of their own."""
        found = _found(name, self._options(name))
        found.jumps = self._way(found.jumps, _MAX_HOPS)
        return found

    def _options(self, name: str) -> dict[str, str]:
        ours = self._own.get(name, []) + [row for row in self._general if row[1].fits(name)]
        options: dict[str, str] = {}
        for _place, block in sorted(ours, key=lambda row: row[0]):
            for word, value in block.options.items():
                options.setdefault(_SAME_WORD.get(word, word), f"{word} {value}")
        return options

    def _way(self, jumps: list[str], left: int) -> list[str]:
        """``jumps`` with what the wildcards say of them: host, user and port, and the way to the first one."""
        if not jumps or not left:
            return jumps
        known = [self._hop(jump) for jump in jumps]
        first = Hop.of(jumps[0]).host
        before = [] if first in self._names else self._of_wildcards(first).jumps
        if before and Hop.of(before[-1]).host != first:
            known = [*self._way(before, left - 1), *known]
        return known

    def _hop(self, jump: str) -> str:
        hop = Hop.of(jump)
        if hop.host in self._names:
            return jump
        found = self._of_wildcards(hop.host)
        return str(Hop(hop.user or found.username, found.host, hop.port or found.port))

    def _of_wildcards(self, name: str) -> Found:
        if name not in self._wildcards_only:
            self._wildcards_only[name] = _found(name, self._options(name))
            if len(self._names) + len(self._wildcards_only) > MAX_SERVERS:
                raise too_many_servers()
        return self._wildcards_only[name]


def _blocks(text: str, listing: Listing) -> list[_Block]:
    blocks = [_Block(["*"])]  # options before the first Host apply to all
    block: _Block | None = blocks[0]
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r\f")
        if not line or line.startswith("#"):
            continue
        found = _LINE.match(line)
        if found is None:
            listing.note(_("Line %(line)d was left out: “%(text)s”.") % {"line": number, "text": visible(line)})
            continue
        word = found[1].lower()
        values = _words(found[2])
        if values is None:
            listing.note(_("Line %(line)d was left out: a quotation mark is missing.") % {"line": number})
        elif word == "host":
            block = _Block(values)
            blocks.append(block)
        elif word == "match":
            block = None
            listing.note(
                _("Line %(line)d: the block “Match %(text)s” was left out, because it depends on where it is used.")
                % {"line": number, "text": visible(found[2])}
            )
        elif word == "include":
            listing.note(
                _("Line %(line)d: “Include %(text)s” is not followed. Import that file too.")
                % {"line": number, "text": visible(found[2])}
            )
        elif word in _LOOKED_UP and values[:1] not in (["no"], ["false"]):
            listing.note(
                _("Line %(line)d: “%(text)s” was left out: host names are taken as they are written.")
                % {"line": number, "text": visible(line)}
            )
        elif word in _TAKEN and block is not None:
            _take(block, word, found[2], values, number, listing)
    return blocks


def _take(block: _Block, word: str, text: str, values: list[str], line: int, listing: Listing) -> None:
    """Keep an option of a block; the first one of a word counts."""
    is_text = word in {"proxycommand", "proxyjump"}
    if not values or not values[0] or (len(values) > 1 and not is_text):
        words = {"line": line, "text": visible(f"{word} {text}")}
        listing.note(_("Line %(line)d was left out: “%(text)s” does not have one value.") % words)
    elif _SAME_WORD.get(word, word) not in {_SAME_WORD.get(known, known) for known in block.options}:
        block.options[word] = text if is_text else values[0]


def _words(text: str) -> list[str] | None:
    """The values of a line as ssh splits them: a backslash is one, except before a quotation mark, itself or a space.

    Nothing where a quotation mark is missing.
    """
    words, at = list[str](), 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        if text[at] == "#":
            break
        word, quote = list[str](), ""
        while at < len(text) and (quote or text[at] not in " \t"):
            sign = text[at]
            behind = text[at + 1 : at + 2]
            if sign == "\\" and behind and (behind in "'\"\\" or (not quote and behind == " ")):
                at += 1
                word.append(behind)
            elif not quote and sign in "'\"":
                quote = sign
            elif sign == quote:
                quote = ""
            else:
                word.append(sign)
            at += 1
        if quote:
            return None
        words.append("".join(word))
    return words


def _found(name: str, options: dict[str, str]) -> Found:
    values = {word: value.partition(" ")[2] for word, value in options.items()}
    found = Found(name, port=values.get("port", ""), username=values.get("user", ""))
    found.key_file = values.get("identityfile", "")
    given = values.get("hostname", name.replace("%", "%%"))[:MAX_VALUE]
    found.host = given.replace("%%", "\0").replace("%h", name[:MAX_VALUE])
    if "%" in found.host:
        found.problem = _("its HostName %s contains a token that only the client knows") % visible(found.host)
    found.host = found.host.replace("\0", "%").lower()
    word, _space, value = options.get("proxyjump", "").partition(" ")
    jumps = jumps_of(value, found) if word == "proxyjump" else jumps_of_command(value, found) if value else []
    if jumps is None:
        found.problem = _("it is reached by the command “%s”, which is not a jump host") % visible(value)
    found.jumps = jumps or []
    return found


def _is_wildcard(pattern: str) -> bool:
    return pattern.startswith("!") or "*" in pattern or "?" in pattern


def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern in which only ``*`` and ``?`` are special."""
    return re.compile(translate(pattern.replace("[", "[[]")))
