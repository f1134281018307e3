"""Projects can be archived, and their names are free then."""

from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import servers.validators

_LAST = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'projects_project'"
_last_number: list[int | None] = []


def note_numbers(_apps: Any, editor: Any) -> None:
    """SQLite gets a new table, which would count on from the projects that are left: who has a right to one that was
    deleted would have it to the next one."""
    if editor.connection.vendor == "sqlite":
        with editor.connection.cursor() as cursor:
            cursor.execute(_LAST)
            _last_number[:] = cursor.fetchone()


def keep_numbers(_apps: Any, editor: Any) -> None:
    """No number is given twice."""
    if editor.connection.vendor == "sqlite" and _last_number != [None]:
        with editor.connection.cursor() as cursor:
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = 'projects_project'")
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('projects_project', %s)", _last_number)


class Migration(migrations.Migration):
    dependencies = [
        ("projects", "0005_server_groups"),
        ("servers", "0004_credential_environment"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunPython(note_numbers, migrations.RunPython.noop),
        migrations.AddField(
            model_name="project",
            name="archive_reason",
            field=models.CharField(
                blank=True,
                editable=False,
                max_length=500,
                validators=[servers.validators.validate_one_line],
                verbose_name="why it is archived",
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="archived_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="archived"),
        ),
        migrations.AddField(
            model_name="project",
            name="archived_by",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="archived by",
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="archived_for",
            field=models.CharField(blank=True, editable=False, max_length=200),
        ),
        migrations.AlterField(
            model_name="project",
            name="name",
            field=models.CharField(
                max_length=100, validators=[servers.validators.validate_one_line], verbose_name="name"
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.UniqueConstraint(
                condition=models.Q(("archived_at", None)),
                fields=("name",),
                name="project_name_once",
                violation_error_code="unique",
                violation_error_message="A project with this name already exists.",
            ),
        ),
        migrations.RunPython(keep_numbers, migrations.RunPython.noop),
    ]
