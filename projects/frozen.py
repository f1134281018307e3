"""What a launch has frozen, read back: by the version that froze it, by a later one, or by the one before."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from django.utils.translation import gettext as _

from servers.fields import DecryptionError

T = TypeVar("T")


class NewerPlanError(DecryptionError):
    """A newer version has frozen something that this one does not know. The message says what to do."""

    def __init__(self, names: list[str]) -> None:
        Exception.__init__(
            self,
            _(
                "It was launched by a newer deployer, and asks for what this one does not know: %(names)s. Restart the "
                "processes that are still of the version before, then launch it again."
            )
            % {"names": ", ".join(names)},
        )


def read_back(kind: type[T], row: Mapping[str, Any]) -> T:
    """The dataclass ``kind`` of what was stored of one. What a field that is not known leaves empty asks for nothing.

    Raises `NewerPlanError` for one that is filled in: to pass over it would do something else than was launched.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # it is a dataclass
    if strange := sorted(name for name, value in row.items() if value and name not in known):
        raise NewerPlanError(strange)
    return kind(**{name: value for name, value in row.items() if name in known})
