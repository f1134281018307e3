from django.db import migrations, models


def part(apps, schema_editor):
    """A look that failed has renewed when it was seen: that time is the failure's, and the other is not known."""
    failed = apps.get_model("deployer", "Sighting").objects.exclude(problem="")
    failed.update(failed_at=models.F("seen_at"), seen_at=None)


class Migration(migrations.Migration):

    dependencies = [
        ('deployer', '0007_unfinished_line'),
    ]

    operations = [
        migrations.AddField(
            model_name='sighting',
            name='failed_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='last look failed'),
        ),
        migrations.AlterField(
            model_name='sighting',
            name='seen_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='seen'),
        ),
        migrations.RunPython(part, migrations.RunPython.noop),
    ]
