"""Lists that are sorted by the heads of their columns: what is asked for in the address, and the heads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from django import template
from django.db.models import F, QuerySet
from django.db.models.expressions import BaseExpression
from django.utils.html import format_html

register = template.Library()


@dataclass(frozen=True)
class Sorting:
    """By which column a list is sorted; ``is_down``: from the last to the first. ``query`` is the rest of the address.

    Without a ``column`` the list has its usual order.
    """

    column: str = ""
    is_down: bool = False
    query: str = ""

    @classmethod
    def asked(cls, given: Any, columns: Mapping[str, Any]) -> Self:
        """What the address asks for by ``sort=name`` or ``sort=-name``; what it does not know is ignored."""
        wanted = given.get("sort", "")
        name = wanted.removeprefix("-")
        rest = given.copy()
        for key in ("sort", "page"):
            rest.pop(key, None)
        return cls(name, wanted.startswith("-"), rest.urlencode()) if name in columns else cls(query=rest.urlencode())

    def of(self, rows: QuerySet[Any], columns: Mapping[str, BaseExpression | F], last: str = "-pk") -> QuerySet[Any]:
        """``rows`` in this order, what is unknown at the end; ``last`` where two are equal, and without a column."""
        if not self.column:
            return rows.order_by(last)
        by = columns[self.column]
        return rows.order_by(by.desc(nulls_last=True) if self.is_down else by.asc(nulls_last=True), last)

    def address(self, column: str) -> str:
        """The query that sorts by a column: upwards first, the other way round where it is sorted by that already."""
        sort = f"sort={'-' if self.column == column and not self.is_down else ''}{column}"
        return f"{self.query}&{sort}" if self.query else sort


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
