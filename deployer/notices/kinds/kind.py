"""What a kind of channel is: the fields of its address, the requests that it is sent, and what answers mean."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from deployer.models import ChannelKind, Deployment
from deployer.notices.texts import Message
from people.visible import visible

#: Characters of a field, and of what an answer is shown with.
LONGEST_FIELD, LONGEST_SAID = 1_000, 300
#: Seconds that a receiver can have us wait: longer is not heeded.
LONGEST_WAIT = 3_600.0

Address = Mapping[str, str]


@dataclass(frozen=True)
class Field:
    """One field of an address. A secret one is never shown again; ``check`` raises `ValidationError`."""

    name: str
    label: Any
    help: Any = ""
    placeholder: str = ""
    is_secret: bool = False
    required: bool = True
    check: Callable[[str], None] = field(default=lambda _value: None)


@dataclass(frozen=True)
class Request:
    """One request, whole."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    @classmethod
    def json(cls, url: str, body: Any, method: str = "POST", **headers: str) -> "Request":
        """A request that brings a JSON document; names of headers have _ in place of -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = json.dumps(body, ensure_ascii=False).encode(errors="replace") if body is not None else b""
        return cls(method, url, {"Content-Type": "application/json; charset=utf-8"} | named, data)


@dataclass(frozen=True)
class Response:
    """An answer: its body is cut to what is read of one."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its document; nothing where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def told(self) -> str:
        """The status and the beginning of the body, as they are shown."""
        said = visible(self.body.decode(errors="replace").strip(), LONGEST_SAID)
        return f"HTTP {self.status}: {said}" if said else f"HTTP {self.status}"


class Outcome(Enum):
    """What became of a try."""

    SENT = "sent"
    LATER = "later"  # it did not arrive, and may the next time
    REFUSED = "refused"  # it did not arrive, and will not
    UNKNOWN = "unknown"  # it may have arrived
    NOTHING = "nothing"  # there was nothing to send


@dataclass(frozen=True)
class Answer:
    """What became of a try, with what was said; ``wait`` is for how many seconds the receiver wants to be left alone.

    ``reference`` is what the receiver calls what it was told of.
    """

    outcome: Outcome
    told: str = ""
    wait: float = 0.0
    reference: str = ""


class Net(Protocol):
    """The way to other machines: `deployer.notices.net` is the one that there is."""

    def ask(self, request: Request) -> Response:
        """Send a request. Raises `NotSentError`, `CutError` or `RefusedAddressError`."""
        ...


@dataclass(frozen=True)
class Parcel:
    """What a kind is given to send: the message, when, and what it is about where it is about one deployment.

    ``reference`` is what the receiver has called that deployment before.
    """

    message: Message
    now: datetime
    deployment: Deployment | None = None
    reference: str = ""


class Kind:
    """One kind of channel."""

    kind: ClassVar[ChannelKind]
    fields: ClassVar[tuple[Field, ...]]
    #: It marks deployments in another system: it has no readers, and no two notices become one.
    is_mark: ClassVar[bool] = False
    #: Several notices of a minute become one message.
    has_readers: ClassVar[bool] = True
    help: ClassVar[Any] = ""

    def cleaned(self, address: Address) -> dict[str, str]:
        """The address as it is stored. Raises `ValidationError`, by field."""
        found, errors = {}, {}
        for each in self.fields:
            value = str(address.get(each.name, "")).strip()
            try:
                if not value and each.required:
                    raise ValidationError(_("This field is required."))
                if len(value) > LONGEST_FIELD or not value.isprintable():
                    raise ValidationError(_("Give one line of at most %d characters.") % LONGEST_FIELD)
                if value:
                    each.check(value)
                    found[each.name] = value
            except ValidationError as error:
                errors[each.name] = error
        if errors:
            raise ValidationError(errors)
        return found

    def send(self, address: Address, parcel: Parcel, net: Net) -> Answer:
        """Send what a parcel has. Raises what `Net.ask` raises."""
        raise NotImplementedError


def web_address(value: str) -> None:
    """Raise `ValidationError` for what is no address of a web server."""
    try:
        parts = urlsplit(value)
        is_one = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or "@" in parts.netloc or " " in value:
        raise ValidationError(_("Give an address that begins with https://."))


#: A receiver that says one of these may take it another time.
_PASSING = frozenset({408, 409, 423, 425, 429})


def judged(response: Response) -> Answer:
    """What a status of HTTP says."""
    if 200 <= response.status < 300:
        return Answer(Outcome.SENT, response.told)
    if response.status in _PASSING or response.status >= 500:
        return Answer(Outcome.LATER, response.told, wait=retry_after(response))
    told = response.told
    if 300 <= response.status < 400:
        told = _("HTTP %d: it leads to another address, and nothing is sent there. Give that address itself.")
        told %= response.status
    return Answer(Outcome.REFUSED, told)


def retry_after(response: Response) -> float:
    """For how many seconds a receiver wants to be left alone."""
    said = next((value for name, value in response.headers.items() if name.lower() == "retry-after"), "")
    return min(float(said), LONGEST_WAIT) if said.isascii() and said.isdecimal() and len(said) < 10 else 0.0
