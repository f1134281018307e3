"""Variables for a group or a server, from outside or asked for at launch, and sets that several projects use."""

import django.core.validators
import django.db.models.deletion
import projects.validators
import servers.fields
import servers.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('projects', '0008_steps'),
        ('servers', '0004_credential_environment'),
    ]

    operations = [
        migrations.CreateModel(
            name='AttachedSet',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveIntegerField(default=1, validators=[django.core.validators.MaxValueValidator(1000)], verbose_name='position')),
            ],
            options={
                'verbose_name': 'attached variable set',
                'verbose_name_plural': 'attached variable sets',
                'ordering': ['position', 'id'],
            },
        ),
        migrations.CreateModel(
            name='SetVariable',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, validators=[projects.validators.validate_variable_name], verbose_name='name')),
                ('value', servers.fields.EncryptedTextField(blank=True, validators=[servers.validators.validate_no_nul], verbose_name='value')),
                ('is_secret', models.BooleanField(default=False, help_text='Never shown again, and masked in every log.', verbose_name='secret')),
                ('scope', models.CharField(choices=[('build', 'Build'), ('deploy', 'Deploy'), ('both', 'Both')], default='both', max_length=10, verbose_name='scope')),
                ('value_from', models.CharField(blank=True, default='', help_text='Instead of a value: a source of this installation, like “vault:shop/token”. It is asked once for each deployment, before the first server is touched; what it gives is masked, and stored nowhere.', max_length=400, validators=[servers.validators.validate_one_line], verbose_name='value from')),
            ],
            options={
                'verbose_name': 'variable of a set',
                'verbose_name_plural': 'variables of a set',
                'ordering': ['name'],
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='VariableSet',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True, validators=[servers.validators.validate_one_line], verbose_name='name')),
                ('description', models.TextField(blank=True, verbose_name='description')),
                ('environment', models.CharField(blank=True, choices=[('development', 'Development'), ('staging', 'Staging'), ('production', 'Production')], default='', help_text='Its maintainers edit the set and attach it. Empty: only those of all environments.', max_length=20, verbose_name='environment')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='changed')),
            ],
            options={
                'verbose_name': 'variable set',
                'verbose_name_plural': 'variable sets',
                'ordering': ['name'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='variable',
            name='variable_once_in_a_scope',
        ),
        migrations.AddField(
            model_name='variable',
            name='choices',
            field=models.TextField(blank=True, help_text='The answers that it takes, one a line. Empty: any.', validators=[projects.validators.validate_choices], verbose_name='answers'),
        ),
        migrations.AddField(
            model_name='variable',
            name='is_prompt',
            field=models.BooleanField(default=False, help_text='Each launch asks for it; the value is the answer where none is given.', verbose_name='asked at launch'),
        ),
        migrations.AddField(
            model_name='variable',
            name='server',
            field=models.ForeignKey(blank=True, help_text='Only there, where it counts before the values of groups.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='variables', to='servers.server', verbose_name='server'),
        ),
        migrations.AddField(
            model_name='variable',
            name='server_group',
            field=models.ForeignKey(blank=True, help_text='Only on its servers, where it counts before the value for all.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='variables', to='servers.servergroup', verbose_name='server group'),
        ),
        migrations.AddField(
            model_name='variable',
            name='value_from',
            field=models.CharField(blank=True, default='', help_text='Instead of a value: a source of this installation, like “vault:shop/token”. It is asked once for each deployment, before the first server is touched; what it gives is masked, and stored nowhere.', max_length=400, validators=[servers.validators.validate_one_line], verbose_name='value from'),
        ),
        migrations.AddConstraint(
            model_name='variable',
            constraint=models.UniqueConstraint(condition=models.Q(('server', None), ('server_group', None)), fields=('project', 'name', 'scope'), name='variable_once_in_a_scope', violation_error_message='There is another variable of this name and scope.'),
        ),
        migrations.AddConstraint(
            model_name='variable',
            constraint=models.UniqueConstraint(condition=models.Q(('server_group__isnull', False)), fields=('project', 'name', 'scope', 'server_group'), name='variable_once_in_a_scope_for_a_group', violation_error_message='There is another variable of this name and scope for this group.'),
        ),
        migrations.AddConstraint(
            model_name='variable',
            constraint=models.UniqueConstraint(condition=models.Q(('server__isnull', False)), fields=('project', 'name', 'scope', 'server'), name='variable_once_in_a_scope_for_a_server', violation_error_message='There is another variable of this name and scope for this server.'),
        ),
        migrations.AddConstraint(
            model_name='variable',
            constraint=models.UniqueConstraint(condition=models.Q(('is_prompt', True)), fields=('project', 'name'), name='variable_asked_once', violation_error_message='There is another question of this name.'),
        ),
        migrations.AddConstraint(
            model_name='variable',
            constraint=models.CheckConstraint(condition=models.Q(('server_group', None), ('server', None), _connector='OR'), name='variable_of_one_place'),
        ),
        migrations.AddConstraint(
            model_name='variable',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('server', None), ('server_group', None)), models.Q(models.Q(('scope', 'build'), _negated=True), ('is_prompt', False)), _connector='OR'), name='variable_of_a_place_for_its_scripts'),
        ),
        migrations.AddField(
            model_name='attachedset',
            name='project',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='attached_sets', to='projects.project', verbose_name='project'),
        ),
        migrations.AddField(
            model_name='setvariable',
            name='variable_set',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='variables', to='projects.variableset', verbose_name='variable set'),
        ),
        migrations.AddField(
            model_name='attachedset',
            name='variable_set',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='attached', to='projects.variableset', verbose_name='variable set'),
        ),
        migrations.AddConstraint(
            model_name='setvariable',
            constraint=models.UniqueConstraint(fields=('variable_set', 'name', 'scope'), name='variable_once_in_a_scope_of_a_set'),
        ),
        migrations.AddConstraint(
            model_name='attachedset',
            constraint=models.UniqueConstraint(fields=('project', 'variable_set'), name='set_attached_once'),
        ),
    ]
