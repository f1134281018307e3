# Counts of the version before are forgotten: they are of the last minutes.

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('people', '0006_invitations_and_account'),
    ]

    operations = [
        migrations.DeleteModel(name='FailureCount'),
        migrations.CreateModel(
            name='FailureCount',
            fields=[
                ('key', models.CharField(editable=False, max_length=64, primary_key=True, serialize=False)),
                ('value', models.JSONField(editable=False, null=True)),
                ('until', models.DateTimeField(db_index=True, editable=False)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.AddField(
            model_name='team',
            name='provider_group',
            field=models.CharField(blank=True, help_text='Whoever signs in through the provider and is in this group there is a member.', max_length=200, validators=[django.core.validators.RegexValidator('[\\x00-\\x1f\\x7f]', 'Line breaks and control characters are not allowed here.', inverse_match=True)], verbose_name='group of the provider'),
        ),
        migrations.AlterField(
            model_name='entry',
            name='act',
            field=models.CharField(choices=[('created', 'added'), ('changed', 'changed'), ('deleted', 'deleted'), ('archived', 'archived'), ('restored', 'restored'), ('launched', 'launched'), ('retried', 'retried'), ('rolled_back', 'rolled back'), ('cancelled', 'cancelled'), ('forced', 'forced to stop'), ('continued', 'continued'), ('approved', 'approved'), ('rejected', 'rejected'), ('overrode', 'overrode a gate'), ('locked', 'locked'), ('unlocked', 'unlocked'), ('held', 'held'), ('released', 'lifted a hold'), ('pinned_host_key', 'pinned a host key'), ('tested', 'tested'), ('downloaded', 'downloaded'), ('signed_in', 'signed in'), ('sign_in_failed', 'failed to sign in'), ('signed_out', 'signed out'), ('factor_added', 'added a second factor'), ('factor_removed', 'removed a second factor'), ('token_made', 'made a token'), ('token_used', 'used a token'), ('token_revoked', 'revoked a token'), ('granted', 'granted a right'), ('revoked', 'revoked a right')], editable=False, max_length=20, verbose_name='act'),
        ),
        migrations.CreateModel(
            name='ProviderMembership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('team', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='provider_memberships', to='people.team')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='provider_memberships', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'default_permissions': (),
                'constraints': [models.UniqueConstraint(fields=('user', 'team'), name='one_membership_by_provider')],
            },
        ),
    ]
