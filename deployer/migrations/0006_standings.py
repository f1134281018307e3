from json import loads

import deployer.models
import django.db.models.deletion
from django.db import migrations, models

HAS = {"sqlite": "json_type(t.proof, '$.{key}') IS NOT NULL", "postgresql": "jsonb_exists(t.proof, '{key}')"}
NEWEST = """(
    SELECT {what} FROM deployer_target t JOIN deployer_deployment d ON d.id = t.deployment_id
    WHERE t.server_id = pair.server_id AND d.project_id = pair.project_id AND {condition} ORDER BY t.id DESC LIMIT 1
)"""
FILL = """
INSERT INTO deployer_standing
    (project_id, server_id, release, changed_at, last_id, proved_id, sighting_id, differs, since, renewed_at)
SELECT pair.project_id, pair.server_id, coalesce({release}, ''), {changed}, {last}, {proved},
    (SELECT s.id FROM deployer_sighting s WHERE s.project_id = pair.project_id AND s.server_id = pair.server_id),
    {no}, '', CURRENT_TIMESTAMP
FROM (
    SELECT DISTINCT d.project_id, t.server_id FROM deployer_target t JOIN deployer_deployment d ON d.id = t.deployment_id
    WHERE t.server_id IS NOT NULL AND t.started_at IS NOT NULL
) pair
"""
EVIDENCE = """
SELECT standing.id, standing.release, seen.release, seen.is_lost, seen.processes, target.proof
FROM deployer_standing standing JOIN deployer_sighting seen ON seen.id = standing.sighting_id
LEFT JOIN deployer_target target ON target.id = standing.proved_id
WHERE standing.changed_at IS NULL OR seen.seen_at >= standing.changed_at
"""


def fill(apps, schema_editor):
    """What the deployments of all time have left, and whether what was seen differs from it."""
    connection = schema_editor.connection
    has = HAS[connection.vendor]
    undone, before = has.replace("{key}", "undone"), has.replace("{key}", "before")
    moment = f"CASE WHEN {undone} THEN coalesce(t.finished_at, t.begun_at) ELSE t.begun_at END"
    statement = FILL.format(
        release=NEWEST.format(what="t.release_after", condition="t.release_after <> ''"),
        changed=NEWEST.format(what=moment, condition="t.begun_at IS NOT NULL"),
        last=NEWEST.format(what="t.id", condition="t.begun_at IS NOT NULL AND t.status <> 'skipped'"),
        proved=NEWEST.format(what="t.id", condition=before),
        no="0" if connection.vendor == "sqlite" else "false",
    )
    with connection.cursor() as cursor:
        cursor.execute(statement)
        cursor.execute(EVIDENCE)
        found = []
        while row := cursor.fetchone():
            pk, left, release, is_lost, *stored = row
            processes, proof = (loads(it) if isinstance(it, str) else it for it in stored)
            found.append((differs(left, release, is_lost, processes, proof), since(processes), pk))
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE deployer_standing SET differs = %s, since = %s WHERE id = %s", found)


def since(processes):
    return max((process.get("since", "") for process in processes), default="")[:40]


def differs(left, release, is_lost, processes, proof):
    proved = (proof.get("after") or []) if proof and "undone" not in proof else []
    same = {key(it) for it in proved} & {key(it) for it in processes} or runs(proved) & runs(processes)
    return bool(
        (left and release != left) or is_lost or (proved and not same) or any(it.get("old") for it in processes)
    )


def key(process):
    if process.get("start") is not None:
        return process.get("boot"), process["pid"], process["start"]
    return (process.get("invocation"),)


def runs(processes):
    return {it["invocation"] for it in processes if it.get("invocation")}


class Migration(migrations.Migration):

    dependencies = [
        ('deployer', '0005_release_at_launch'),
        ('projects', '0003_process_name_words'),
        ('servers', '0002_server_facts'),
    ]

    operations = [
        migrations.CreateModel(
            name='Standing',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('release', models.CharField(blank=True, max_length=300)),
                ('changed_at', models.DateTimeField(null=True)),
                ('differs', models.BooleanField(default=False)),
                ('since', models.CharField(blank=True, max_length=40)),
                ('renewed_at', models.DateTimeField(db_index=True)),
            ],
            options={
                'ordering': ['project', 'server'],
            },
        ),
        migrations.AlterField(
            model_name='target',
            name='server',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=deployer.models.null_once_ended, related_name='targets', to='servers.server', verbose_name='server'),
        ),
        migrations.AddIndex(
            model_name='target',
            index=models.Index(fields=['server', '-id'], name='deployments_of_server'),
        ),
        migrations.AddField(
            model_name='standing',
            name='last',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='deployer.target'),
        ),
        migrations.AddField(
            model_name='standing',
            name='project',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='standings', to='projects.project'),
        ),
        migrations.AddField(
            model_name='standing',
            name='proved',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='deployer.target'),
        ),
        migrations.AddField(
            model_name='standing',
            name='server',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='standings', to='servers.server'),
        ),
        migrations.AddField(
            model_name='standing',
            name='sighting',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='deployer.sighting'),
        ),
        migrations.AddConstraint(
            model_name='standing',
            constraint=models.UniqueConstraint(fields=('project', 'server'), name='one_standing_of_a_project_on_a_server'),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
