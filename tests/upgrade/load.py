"""``python -m tests.upgrade.load FILE`` puts what an SQLite file of a release holds into the settings' PostgreSQL."""

import os
import sqlite3
import sys
from contextlib import closing

TABLES = """
    SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'django_migrations' AND name NOT LIKE 'sqlite%'
"""
#: SQLite keeps them as numbers.
BOOLEANS = "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND data_type = 'boolean'"


def load(file: str) -> None:
    """Bring the empty database to the state of the release, then copy its rows."""
    from django.db import connection, transaction
    from django.db.migrations.executor import MigrationExecutor

    with closing(sqlite3.connect(file)) as source:
        # The last of each app: the others come with it.
        last = dict(source.execute("SELECT app, name FROM django_migrations ORDER BY id").fetchall())
        MigrationExecutor(connection).migrate([*last.items()])
        names = [name for (name,) in source.execute(TABLES)]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(names)}")  # migrations have made some rows
            for table in names:
                cursor.execute(BOOLEANS, [table])
                booleans = {name for (name,) in cursor.fetchall()}
                rows = source.execute(f'SELECT * FROM "{table}"')  # noqa: S608 (our own table)
                columns = [column[0] for column in rows.description]
                listed, places = ", ".join(f'"{name}"' for name in columns), ", ".join(["%s"] * len(columns))
                for row in rows:
                    values = [
                        bool(value) if name in booleans and value is not None else value
                        for name, value in zip(columns, row, strict=True)
                    ]
                    cursor.execute(f'INSERT INTO "{table}" ({listed}) VALUES ({places})', values)  # noqa: S608
                if "id" in columns:
                    cursor.execute(
                        f"SELECT setval(pg_get_serial_sequence('\"{table}\"', 'id'), coalesce(max(id), 1)) "  # noqa: S608
                        f'FROM "{table}"'
                    )


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")
    import django

    django.setup()
    load(sys.argv[1])
