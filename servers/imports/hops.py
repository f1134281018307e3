"""The hops before a server: jump hosts as ssh names them, and commands of ssh that only forward to one."""

import re
import shlex
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

from servers.imports.listing import MAX_VALUE, Found

#: Letters of a command and number of hops: a wildcard or a group names one for each of many servers.
LONGEST_COMMAND = 2_000
MOST_HOPS = 16
#: Options of ssh that take a value, and those without one that change nothing about where a connection leads.
_WITH_VALUE = frozenset("BbcDEeFIiJLlmOopQRSWw")
_HARMLESS = frozenset("46AaCKkNnqTtvXxYy" + "bceEiIlmopSWJ")
_WORD_OF = {"l": "user", "p": "port", "J": "proxyjump", "i": "identityfile", "F": "-F", "W": "-W"}
_TOKEN = re.compile(r"%(.?)")
_OPTION = re.compile(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)", re.DOTALL)
#: What a shell does more than to split a command into words; messages may go elsewhere.
_SHELL_SIGNS = re.compile(r"[;|&$`()<>]")
_SILENCED = re.compile(r"\s2>\s*/dev/null(?=\s|\Z)")
_WINDOWS = re.compile(r"\"?(?:[A-Za-z]:[\\/]|[^\"\s]*\.exe\b)")


class Hop(NamedTuple):
    """A jump host as it is named: the user and the port are empty where none is given."""

    user: str
    host: str
    port: str

    @classmethod
    def of(cls, text: str) -> "Hop":
        """The parts of ``user@host:port``, ``[host]:port`` or ``ssh://user@host:port``."""
        plain = text.removeprefix("ssh://")
        user, _at, place = plain.removesuffix("/").rpartition("@") if plain != text else plain.rpartition("@")
        if bracketed := re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", place):
            return cls(user, bracketed[1], bracketed[2] or "")
        host, _colon, port = place.partition(":") if place.count(":") == 1 else (place, "", "")
        return cls(unquote(user) if plain != text else user, host, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


@dataclass
class Arguments:
    """The words behind ``ssh``: options by their long names in small letters, the first one of each, and the rest."""

    options: dict[str, str] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)
    unusual: bool = False

    @classmethod
    def of(cls, words: list[str]) -> "Arguments":
        """Take ``words`` apart as ssh does."""
        found, left = cls(), iter(words)
        for word in left:
            if not word.startswith("-") or word == "-":
                found.rest.append(word)
                if len(found.rest) == 1:
                    found._note("user", Hop.of(word).user)
                    found._note("port", Hop.of(word).port if word.startswith("ssh://") else "")
                continue
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                found.unusual = found.unusual or (letter not in _HARMLESS and letter != "F")
                if letter in _WITH_VALUE:
                    found._take(letter, letters or next(left, ""))
                    break
        return found

    def _take(self, letter: str, value: str) -> None:
        if letter != "o":
            self._note(_WORD_OF.get(letter, letter), value)
        elif option := _OPTION.fullmatch(value):
            self._note(option[1].lower(), option[2].strip().strip('"'))

    def _note(self, word: str, value: str) -> None:
        word = "proxyjump" if word == "proxycommand" and "proxyjump" in self.options else word
        word = "proxycommand" if word == "proxyjump" and "proxycommand" in self.options else word
        if value:
            self.options.setdefault(word, value)


def jumps_of(value: str, target: Found) -> list[str] | None:
    """The hops of a ``ProxyJump``, first to last; nothing where a token in it is not known here."""
    value = value.partition("#")[0].strip().replace('"', "")
    if value.lower() == "none":
        return []
    if len(value) > LONGEST_COMMAND or value.count(",") >= MOST_HOPS:
        return None
    hops = [_expanded(hop.strip(), target) for hop in value.split(",") if hop.strip()]
    known = [str(Hop.of(hop)) for hop in hops if hop is not None]
    return known if len(known) == len(hops) else None


def jumps_of_command(command: str, target: Found) -> list[str] | None:
    """The hops of a ``ProxyCommand`` that only forwards (``ssh -W %h:%p user@bastion``); nothing for any other."""
    if command.strip().lower() == "none":
        return []
    words = _words_of(command)
    if words[:1] == ["exec"]:
        del words[0]
    if not words or not re.fullmatch(r"(?:.*[\\/])?ssh(?:\.exe)?", words[0], re.IGNORECASE | re.DOTALL):
        return None
    expanded = [_expanded(word, target) for word in words[1:]]
    told = Arguments.of([word for word in expanded if word is not None])
    ends = {f"{target.host}:{target.port or 22}", f"[{target.host}]:{target.port or 22}"}
    if None in expanded or told.unusual or len(told.rest) != 1 or told.options.get("-W") not in ends:
        return None
    if told.options.keys() & {"-F", "hostname"}:  # then the bastion is not the one that this file describes
        return None
    before = jumps_in(told, target)
    if before is None:
        return None
    host = Hop.of(told.rest[0]).host
    return [*before, str(Hop(told.options.get("user", ""), host, told.options.get("port", "")))]


def jumps_in(told: Arguments, target: Found) -> list[str] | None:
    """The hops that arguments of ssh name; nothing for a command that does more than forward."""
    if "proxycommand" in told.options:
        return jumps_of_command(told.options["proxycommand"], target)
    return jumps_of(told.options.get("proxyjump", ""), target)


def _words_of(command: str) -> list[str]:
    """The words of a command as a shell splits it; none where the shell would do more."""
    if len(command) > LONGEST_COMMAND:
        return []
    command = _SILENCED.sub("", command)
    if _SHELL_SIGNS.search(command):
        return []
    lexer = shlex.shlex(command, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    if _WINDOWS.match(command):
        lexer.escape = ""
    try:
        words = [*lexer]
    except ValueError:
        return []
    return words[: next((number for number, word in enumerate(words) if word.startswith("#")), None)]


def _expanded(text: str, target: Found) -> str | None:
    """``text`` with the tokens of ssh filled in; nothing where one of them is not known here."""
    known = {"%": "%", "h": target.host, "n": target.name, "p": target.port or "22", "r": target.username}
    if text.count("%") > MOST_HOPS or max(map(len, known.values())) > MAX_VALUE:
        return None
    if not all(known.get(token) for token in _TOKEN.findall(text)):
        return None
    return _TOKEN.sub(lambda token: known[token[1]], text)
