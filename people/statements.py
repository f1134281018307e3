"""Updates that are put together once and run often: Django takes longer for one than the database does."""

from typing import Any

from django.db import connections
from django.db.models import Expression, Model, QuerySet
from django.db.models.sql.subqueries import UpdateQuery


class Slot(Expression):
    """A value of a statement that is named by each run of it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """A place for it."""
        return "%s", [self]


class KeptUpdate:
    """An update of ``rows`` to ``values``, in which each `Slot` is filled by every run.

    It runs on the database and in the transaction of the caller's thread, as `QuerySet.update` would.
    """

    def __init__(self, rows: QuerySet[Any], values: dict[str, Any]) -> None:
        self._fields = {name: rows.model._meta.get_field(name) for name in values}
        query: Any = rows.query.chain(UpdateQuery)
        query.add_update_values(values)
        self._alias = rows.db
        self._sql, self._words = query.get_compiler(self._alias).as_sql()

    def run(self, **given: Any) -> int:
        """Fill the slots and run it; gives the number of rows that were updated."""
        connection = connections[self._alias]
        words = [self._filled(word, given, connection) if isinstance(word, Slot) else word for word in self._words]
        with connection.cursor() as cursor:
            cursor.execute(self._sql, words)
            return int(cursor.rowcount)

    def _filled(self, slot: Slot, given: dict[str, Any], connection: Any) -> Any:
        value, field = given[slot.name], self._fields.get(slot.name)
        if field is None:
            return value
        if isinstance(value, Model):
            value = value.pk
        return field.get_db_prep_save(value, connection)
