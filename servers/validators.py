"""Rules for values that later reach a shell, a path, a URL or a page.

Migrations name them: this module keeps its name, and so do they.
"""

import ipaddress
import re

from django.core.exceptions import ValidationError
from django.utils.deconstruct import deconstructible
from django.utils.translation import gettext as _

from servers import hosts

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")


def validate_one_line(value: str) -> None:
    """Refuse control characters, line breaks and NUL among them."""
    if _CONTROL.search(value):
        raise ValidationError(_("Line breaks and control characters are not allowed here."))


#: Tags of one server.
MOST_TAGS = 20
_TAG = re.compile(r"\w[\w.:/=-]{0,39}")


def words_of_tags(value: str) -> list[str]:
    """The tags in a text, each once, in lower case and in order; commas and spaces separate them."""
    return sorted({*value.lower().replace(",", " ").split()})


def validate_tags(value: str) -> None:
    """A few short words of letters, digits and “. : / = _ -”."""
    validate_one_line(value)
    words = words_of_tags(value)
    if len(words) > MOST_TAGS:
        raise ValidationError(_("At most %(number)s tags."), params={"number": MOST_TAGS})
    if strange := next((word for word in words if not _TAG.fullmatch(word)), ""):
        raise ValidationError(
            _("“%(tag)s” is no tag: at most 40 letters, digits and any of . : / = _ -"), params={"tag": strange[:60]}
        )


def validate_host(value: str) -> None:
    """A host name (RFC 1123, underscores tolerated) or an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        labels = value.rstrip(".").split(".")
        if len(value) > 253 or not all(_LABEL.match(label) for label in labels):
            raise ValidationError(
                _("“%(value)s” is not a host name or an IP address."), params={"value": value}
            ) from None


def validate_hosts(value: str) -> None:
    """Patterns of hosts, separated by commas or lines; see `servers.hosts`."""
    if len(hosts.entries(value)) > hosts.MOST:
        raise ValidationError(_("More than %d patterns are too many: use wildcards or networks.") % hosts.MOST)
    try:
        hosts.check(value)
    except hosts.NotAPatternError as error:
        raise ValidationError(
            _(
                "“%(value)s” is not a host: give names, *.example.com, addresses or networks like 10.0.0.0/8, each "
                "perhaps with a :port."
            ),
            params={"value": str(error)[:100]},
        ) from error


def validate_no_nul(value: str) -> None:
    """Refuse NUL, which neither an environment variable nor PostgreSQL can hold."""
    if "\x00" in value:
        raise ValidationError(_("The value must not contain a NUL character."))


@deconstructible
class PathValidator:
    """A path on a server: one line, no ``..``; absolute or below the login's home (``~/``), or also relative."""

    def __init__(self, *, relative_allowed: bool = False) -> None:
        self.relative_allowed = relative_allowed

    def __call__(self, value: str) -> None:
        validate_one_line(value)
        parts = value.split("/")
        if ".." in parts:
            raise ValidationError(_("“%(value)s” must not contain “..”."), params={"value": value})
        if value.startswith("~") and not value.startswith("~/"):
            raise ValidationError(_("Only the login's own home is allowed: ~/…"))
        if not value.startswith(("/", "~/")) and not self.relative_allowed:
            raise ValidationError(_("“%(value)s” must be an absolute path, or begin with ~/."), params={"value": value})
        if not any(part not in {"", ".", "~"} for part in parts):
            raise ValidationError(_("“%(value)s” does not name anything below /."), params={"value": value})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathValidator) and other.relative_allowed == self.relative_allowed

    def __hash__(self) -> int:
        return hash(self.relative_allowed)
