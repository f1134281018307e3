"""What deployments left of config files on servers, and what was seen of them."""

import django.db.models.deletion
import servers.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deployer', '0012_step_runs'),
        ('projects', '0010_config_files'),
        ('servers', '0004_credential_environment'),
    ]

    operations = [
        migrations.AddField(
            model_name='sighting',
            name='files',
            field=models.JSONField(blank=True, default=list, verbose_name='config files'),
        ),
        migrations.CreateModel(
            name='ConfigState',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('release', models.CharField(blank=True, max_length=300)),
                ('path', models.CharField(max_length=300)),
                ('digest', servers.fields.EncryptedTextField(blank=True)),
                ('made_of', servers.fields.EncryptedTextField(blank=True)),
                ('coming', servers.fields.EncryptedTextField(blank=True)),
                ('coming_made_of', servers.fields.EncryptedTextField(blank=True)),
                ('coming_by', models.PositiveBigIntegerField(null=True)),
                ('former', servers.fields.EncryptedTextField(blank=True)),
                ('former_made_of', servers.fields.EncryptedTextField(blank=True)),
                ('at', models.DateTimeField()),
                ('deployment', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='config_states', to='deployer.deployment')),
                ('former_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='deployer.deployment')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='config_states', to='projects.project')),
                ('server', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='config_states', to='servers.server')),
            ],
            options={
                'ordering': ['project', 'server', 'path'],
                'constraints': [models.UniqueConstraint(fields=('project', 'server', 'release', 'path'), name='one_state_of_a_config_file')],
            },
        ),
    ]
