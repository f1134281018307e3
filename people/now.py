"""The database's clock, in a form in which what it wrote is found again by what was read of it."""

from typing import Any

from django.db.models import functions


class Now(functions.Now):  # noqa: TID251
    """The moment of a statement, by the database's clock; import it from here alone.

    SQLite compares moments as text. Django writes those of Python with six digits of a second, and without any where
    they are all zero, but those of SQLite's own clock with three: read and asked for again, one in a thousand (at a
    full second) would be later than itself.
    """

    #: What SQLite takes its clock from.
    clock = "NOW"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """As Python's moments are stored."""
        told = f"STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', '{self.clock}')"
        return self.as_sql(compiler, connection, template=f"REPLACE({told} || '000', '.000000', '')", **context)
