"""Lists that are sorted by the heads of their columns: what the address asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from django.db.models import F, QuerySet
from django.db.models.expressions import BaseExpression


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
