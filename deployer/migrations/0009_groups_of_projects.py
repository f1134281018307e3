from django.db import migrations


def groups_of_before(apps, schema_editor):
    """A project belongs to the groups of its environment that it was deployed to."""
    Project = apps.get_model("projects", "Project")
    Group = apps.get_model("servers", "ServerGroup")
    for project in Project.objects.all():
        deployed = Group.objects.filter(deployments__project=project, environment=project.environment)
        project.server_groups.set(deployed.distinct())


class Migration(migrations.Migration):
    dependencies = [
        ("deployer", "0008_failed_looks"),
        ("projects", "0005_server_groups"),
        ("servers", "0004_credential_environment"),
    ]

    operations = [migrations.RunPython(groups_of_before, migrations.RunPython.noop)]
