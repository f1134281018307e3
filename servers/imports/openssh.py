"""Servers of an OpenSSH client configuration, by the rules of ssh_config(5): the first value of each word wins."""

import re
import shlex
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property

from django.utils.translation import gettext as _

from servers.imports.listing import MAX_SERVERS, Found, Listing, UnreadableListingError, too_many_servers, visible

#: Blocks with wildcards and their patterns; each is compared with each server.
MAX_WILDCARDS = 200
MAX_PATTERNS = 1_000

#: Of these two the one that comes first counts.
_SAME_WORD = {"proxycommand": "proxyjump"}
_TAKEN = {"hostname", "port", "user", "identityfile", "proxyjump", "proxycommand"}
_LINE = re.compile(r"([A-Za-z]++)(?:[ \t]*+=[ \t]*+|[ \t]++)(.*)\Z")


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
    own: dict[str, list[tuple[int, _Block]]] = {}
    for number, block in enumerate(blocks):
        for name in [] if block.has_wildcards else dict.fromkeys(block.names):
            own.setdefault(name, []).append((number, block))
    for name in names:
        ours = own.get(name, []) + [row for row in general if row[1].fits(name)]
        options: dict[str, str] = {}
        for _place, block in sorted(ours, key=lambda row: row[0]):
            for word, value in block.options.items():
                options.setdefault(_SAME_WORD.get(word, word), f"{word} {value}")
        listing.servers.append(_found(name, options))
    return listing


def _blocks(text: str, listing: Listing) -> list[_Block]:
    blocks = [_Block(["*"])]  # options before the first Host apply to all
    block: _Block | None = blocks[0]
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.match(line)
        if found is None:
            listing.note(_("Line %(line)d was left out: “%(text)s”.") % {"line": number, "text": visible(line)})
            continue
        word = found[1].lower()
        try:
            values = shlex.split(found[2], comments=True)
        except ValueError:
            listing.note(_("Line %(line)d was left out: a quotation mark is missing.") % {"line": number})
            continue
        if word == "host":
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
        elif word in _TAKEN and block is not None and values:
            value = found[2] if word == "proxycommand" else values[0]
            if _SAME_WORD.get(word, word) not in {_SAME_WORD.get(known, known) for known in block.options}:
                block.options[word] = value  # the first one counts
    return blocks


def _found(name: str, options: dict[str, str]) -> Found:
    values = {word: value.partition(" ")[2] for word, value in options.items()}
    found = Found(name, port=values.get("port", ""), username=values.get("user", ""))
    found.key_file = values.get("identityfile", "")
    found.host = values.get("hostname", name).replace("%h", name).replace("%%", "\0")
    if "%" in found.host:
        found.problem = _("its HostName %s contains a token that only the client knows") % visible(found.host)
    found.host = found.host.replace("\0", "%")
    way = options.get("proxyjump", "")
    word, _space, value = way.partition(" ")
    if value.strip().lower() != "none":
        jumps = jumps_of(value) if word == "proxyjump" else jumps_of_command(value) if value else []
        if jumps is None:
            found.problem = _("it is reached by the command “%s”, which is not a jump host") % visible(value)
        found.jumps = jumps or []
    return found


def jumps_of(value: str) -> list[str]:
    """The hops of a ``ProxyJump``, first to last."""
    return [hop.strip().removeprefix("ssh://") for hop in value.split(",") if hop.strip()]


def jumps_of_command(command: str) -> list[str] | None:
    """The hop of a ``ProxyCommand`` that only forwards (``ssh -W %h:%p user@bastion``); nothing for any other."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words or words[0].rpartition("/")[2] != "ssh":
        return None
    host = user = port = ""
    forwards = False
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-"):
            if host:
                return None  # a command to run there
            host = word
        elif word[:2] in {"-W", "-p", "-l", "-o", "-i", "-F"}:
            value = word[2:] or next(rest, "")
            forwards = forwards or (word[:2] == "-W" and value in {"%h:%p", "[%h]:%p"})
            port = value if word[:2] == "-p" else port
            user = value if word[:2] == "-l" else user
        elif word not in {"-q", "-A", "-a", "-x", "-T", "-4", "-6", "-C"}:
            return None
    if not host or not forwards:
        return None
    return [(f"{user}@" if user else "") + host + (f":{port}" if port else "")]


def _is_wildcard(pattern: str) -> bool:
    return pattern.startswith("!") or "*" in pattern or "?" in pattern


def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern in which only ``*`` and ``?`` are special."""
    return re.compile(translate(pattern.replace("[", "[[]")))
