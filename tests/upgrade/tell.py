"""``python -m tests.upgrade.tell`` prints all rows of the settings' database as JSON, whichever kind it is."""

import json
import os


def tell() -> dict[str, object]:
    """The migrations that it records, and the rows of each table, in an order of their own."""
    from deployer.upkeep import rows

    def told(table: rows.Table, row: list[rows.Value]) -> str:
        """A row as text; a database may order the keys of a JSON value as it likes."""
        values = [
            json.loads(str(value)) if column.kind == "JSONField" and value is not None else value
            for column, value in zip(table.columns, row, strict=True)
        ]
        return json.dumps(values, sort_keys=True)

    migrations = rows.applied()
    with rows.one_moment() as read:
        found = {table.name: sorted(told(table, row) for row in read(table)) for table in rows.tables(migrations)}
    return {"migrations": migrations, "rows": found}


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")
    import django

    django.setup()
    print(json.dumps(tell()))
