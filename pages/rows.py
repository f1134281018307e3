"""How templates find what belongs to a row of theirs, and the heads that sort rows."""

from collections.abc import Mapping
from typing import Any

from django import template
from django.utils.html import format_html

from pages.sorting import Sorting

register = template.Library()


@register.filter
def of(found: Mapping[Any, Any], key: Any) -> Any:
    """The entry of a mapping; nothing where it has none."""
    return found.get(key)


@register.filter
def words(text: str | None) -> list[str]:
    """The words of a list that a template names, without any where it names none."""
    return (text or "").split()


@register.simple_tag
def sortable(column: str, label: str, sorting: Sorting | None = None, kind: str = "") -> str:
    """The head of a column: a link that sorts by it where the list can be sorted, and how it is sorted now."""
    if not sorting:
        return format_html('<th scope="col" class="{}">{}</th>', kind, label)
    state = ""
    if sorting.column == column:
        state = "descending" if sorting.is_down else "ascending"
    return format_html(
        '<th scope="col" class="{} sortable"{}><a href="?{}">{}</a></th>',
        kind,
        format_html(' aria-sort="{}"', state) if state else "",
        sorting.address(column),
        label,
    )
