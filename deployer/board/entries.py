"""What an entry of the record says, in words: the kind of its thing, the names of fields, and their values."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.apps import apps
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

#: Longest way from one side of a change to the other that stands in one line.
IN_LINE = 60
#: What entries hold besides fields, in words.
_NO_FIELDS = {
    "server": gettext_lazy("server"),
    "servers": gettext_lazy("servers"),
    "problem": gettext_lazy("problem"),
    "earlier": gettext_lazy("earlier deployment"),
    "rebuild": gettext_lazy("built again"),
    "deployments": gettext_lazy("deployments"),
    "log_lines": gettext_lazy("lines of logs"),
    "releases": gettext_lazy("releases"),
}


@dataclass(frozen=True)
class Change:
    """One field that changed: its name in words, and what it was and became, as far as that is to be told."""

    name: str
    before: str = ""
    after: str = ""

    @property
    def is_short(self) -> bool:
        """Whether both sides fit in one line."""
        return len(self.before) + len(self.after) <= IN_LINE and "\n" not in self.before + self.after


def kinds() -> dict[str, str]:
    """What things of each kind are called. Several models of other apps may have a name: ours come last, and count."""
    models = {name: str(model._meta.verbose_name) for name, model in _recorded().items()}
    return models | {"installation": _("installation")}


def model_of(kind: str) -> Any:
    """The model of the things of a kind; nothing where it is none."""
    return _recorded().get(kind)


def label_of(kind: str, name: str) -> str:
    """What something that an entry holds is called."""
    return str(getattr(fields_of(kind).get(name), "verbose_name", "") or _NO_FIELDS.get(name, name.replace("_", " ")))


@cache
def fields_of(kind: str) -> dict[str, Any]:
    """The fields of the things of a kind, by name."""
    model = model_of(kind)
    return {field.name: field for field in model._meta.get_fields()} if model is not None else {}


def in_words(value: Any) -> str:
    """A recorded value, for people."""
    match value:
        case None | "":
            return ""
        case bool():
            return _("yes") if value else _("no")
        case list():
            return ", ".join(map(in_words, value))
    return str(value)


@cache
def _recorded() -> dict[str, Any]:
    others = ("Deployment", "Release")
    models = [model for model in apps.get_models() if hasattr(model, "UNRECORDED") or model.__name__ in others]
    return {str(model._meta.model_name): model for model in models}
