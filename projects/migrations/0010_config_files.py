"""Config files of projects, with their versions."""

import django.db.models.deletion
import projects.validators
import servers.fields
import servers.validators
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('projects', '0009_variables_by_place'),
        ('servers', '0004_credential_environment'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name='project',
            name='auto_rollback',
            field=models.BooleanField(default=False, help_text='When more servers fail than allowed, a full deployment puts the servers it has changed back on their previous release, and a restart-only one puts back the config files that it has replaced.', verbose_name='roll back automatically'),
        ),
        migrations.CreateModel(
            name='ConfigFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('path', models.CharField(help_text='Relative: in the release. Absolute, or with ~/: on the machine; its folder must be there.', max_length=300, validators=[projects.validators.validate_config_path], verbose_name='path')),
                ('content', servers.fields.EncryptedTextField(blank=True, validators=[servers.validators.validate_no_nul, projects.validators.validate_content], verbose_name='content')),
                ('is_secret', models.BooleanField(default=False, help_text='Its content is never shown again, and masked in every log.', verbose_name='secret')),
                ('is_template', models.BooleanField(default=False, help_text='{{ NAME }} is replaced by a variable or a fact of the deployment, {{ NAME | json }} by its value as JSON; also yaml, shell and env.', verbose_name='template')),
                ('check_command', models.CharField(blank=True, help_text='A command that must succeed before anything is replaced, like “nginx -t -c {file}”; {file} is the new content, beside the old file.', max_length=500, validators=[projects.validators.validate_check_of_file], verbose_name='check')),
                ('mode', models.CharField(default='0640', max_length=4, validators=[projects.validators.validate_mode], verbose_name='mode')),
                ('owner', models.CharField(blank=True, help_text='A user, or user:group. Empty: as it is now, or the user that writes it.', max_length=70, validators=[projects.validators.validate_owner], verbose_name='owner')),
                ('position', models.PositiveIntegerField(default=0, verbose_name='position')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='config_files', to='projects.project', verbose_name='project')),
                ('server', models.ForeignKey(blank=True, help_text='Only there, in place of every other.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='config_files', to='servers.server', verbose_name='server')),
                ('server_group', models.ForeignKey(blank=True, help_text='Only on its servers, in place of the file for all.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='config_files', to='servers.servergroup', verbose_name='server group')),
            ],
            options={
                'verbose_name': 'config file',
                'verbose_name_plural': 'config files',
                'ordering': ['position', 'path', 'id'],
            },
        ),
        migrations.CreateModel(
            name='ConfigVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField(verbose_name='version')),
                ('content', servers.fields.EncryptedTextField(blank=True, verbose_name='content')),
                ('at', models.DateTimeField(auto_now_add=True, verbose_name='changed')),
                ('by_name', models.CharField(blank=True, max_length=200, verbose_name='changed by')),
                ('by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('file', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='projects.configfile')),
            ],
            options={
                'verbose_name': 'version of a config file',
                'verbose_name_plural': 'versions of config files',
                'ordering': ['file', '-number'],
            },
        ),
        migrations.AddConstraint(
            model_name='configfile',
            constraint=models.UniqueConstraint(condition=models.Q(('server', None), ('server_group', None)), fields=('project', 'path'), name='config_file_once_for_all', violation_error_message='There is such a file for all servers already.'),
        ),
        migrations.AddConstraint(
            model_name='configfile',
            constraint=models.UniqueConstraint(condition=models.Q(('server_group__isnull', False)), fields=('project', 'path', 'server_group'), name='config_file_once_for_a_group', violation_error_message='There is such a file for this group already.'),
        ),
        migrations.AddConstraint(
            model_name='configfile',
            constraint=models.UniqueConstraint(condition=models.Q(('server__isnull', False)), fields=('project', 'path', 'server'), name='config_file_once_for_a_server', violation_error_message='There is such a file for this server already.'),
        ),
        migrations.AddConstraint(
            model_name='configfile',
            constraint=models.CheckConstraint(condition=models.Q(('server_group', None), ('server', None), _connector='OR'), name='config_file_for_one_place'),
        ),
        migrations.AddConstraint(
            model_name='configversion',
            constraint=models.UniqueConstraint(fields=('file', 'number'), name='config_version_once'),
        ),
    ]
