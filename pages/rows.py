"""How templates find what belongs to a row of theirs."""

from collections.abc import Mapping
from typing import Any

from django import template

register = template.Library()


@register.filter
def of(found: Mapping[Any, Any], key: Any) -> Any:
    """The entry of a mapping; nothing where it has none."""
    return found.get(key)
