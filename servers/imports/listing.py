"""The servers in a file of another tool, as the file describes them."""

from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

#: Bounds of one file; larger ones are refused and can be taken in parts.
MAX_BYTES = 256 * 1024
MAX_SERVERS = 2_000
MAX_GROUPS = 200
MAX_MEMBERSHIPS = 50_000
MAX_NOTES = 50
#: Letters that are kept of a value: more than a host or a user may have, so that a longer one is refused.
MAX_VALUE = 300


class UnreadableListingError(Exception):
    """The text has another format than stated, or is too large; the message says where."""


@dataclass
class Found:
    """One server of a file. ``jumps`` are the hops before it, first to last, as ``user@host:port``.

    ``problem`` says why it cannot be taken. ``key_file`` is only named: nothing is read from it.
    """

    name: str
    host: str = ""
    port: str = ""
    username: str = ""
    key_file: str = ""
    jumps: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass
class Listing:
    """The servers and groups of a file, and sentences about what in it was left out."""

    servers: list[Found] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Remember that something was left out, unless that is known or there is too much of it."""
        if len(self.notes) < MAX_NOTES and sentence not in self.notes:
            self.notes.append(sentence)

    def take(self, found: Found) -> None:
        """Add a server; values of a wildcard or a group, which count for each of many, are cut."""
        for name in ("host", "port", "username", "key_file"):
            setattr(found, name, getattr(found, name)[:MAX_VALUE])
        self.servers.append(found)

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Listing":
        """The listing that `dataclasses.asdict` took apart."""
        return cls([Found(**found) for found in values["servers"]], values["groups"], values["notes"])


def check_size(size: int) -> None:
    """Refuse a file of more than `MAX_BYTES` bytes. Raises `UnreadableListingError`."""
    if size > MAX_BYTES:
        raise UnreadableListingError(_("The file is larger than %d KB. Import it in parts.") % (MAX_BYTES // 1024))


def text_of(data: bytes) -> str:
    """The text of an uploaded file. Raises `UnreadableListingError`."""
    check_size(len(data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableListingError(_("The file is not text in UTF-8.")) from error
    if "\0" in text:
        raise UnreadableListingError(_("The file is not text: it contains NUL characters."))
    return text


def too_many_servers() -> UnreadableListingError:
    """There are more servers than can be imported at once."""
    return UnreadableListingError(_("There are more than %d servers in it. Import them in parts.") % MAX_SERVERS)


def visible(text: str) -> str:
    """A piece of a file for a sentence: one line, not long, nothing invisible."""
    plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:80])
    return plain + ("…" if len(text) > 80 else "")
