"""Credentials are bound to hosts: those of the servers and projects that use them now, so that nothing stops."""

from ipaddress import ip_address
from urllib.parse import urlsplit

import servers.validators
from django.db import migrations, models


def _pattern(host, port, usual):
    try:
        host = str(ip_address(host))
    except ValueError:
        host = host.lower().rstrip(".")
    if port == usual:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _git_pattern(address):
    """The host of a git address; empty for a repository on the same machine."""
    if not address or address.startswith(("/", "file://")):
        return ""
    if "://" not in address:
        return _pattern(address.partition(":")[0].rpartition("@")[2], 22, 22)
    try:
        url = urlsplit(address)
        usual = 443 if url.scheme == "https" else 22
        return _pattern(url.hostname or "", url.port or usual, usual)
    except ValueError:
        return ""


def bind(apps, schema_editor):
    credentials = apps.get_model("servers", "Credential").objects
    hosts, purposes = {}, {}

    def use(credential, pattern, purpose):
        purposes.setdefault(credential, set()).add(purpose)
        if pattern:
            hosts.setdefault(credential, {})[pattern] = None

    servers = apps.get_model("servers", "Server").objects.order_by("name")
    for credential, host, port in servers.values_list("credential", "host", "port"):
        use(credential, _pattern(host, port, 22), "servers")
    projects = apps.get_model("projects", "Project").objects.exclude(git_credential=None).order_by("name")
    for credential, address in projects.values_list("git_credential", "git_url"):
        use(credential, _git_pattern(address), "git")
    for credential, found in purposes.items():
        values = {"hosts": "\n".join(hosts.get(credential, {}))}
        if len(found) == 1:
            values["purpose"] = found.pop()
        credentials.filter(pk=credential).update(**values)


class Migration(migrations.Migration):

    dependencies = [
        ('servers', '0002_server_facts'),
        ('projects', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='credential',
            name='hosts',
            field=models.TextField(blank=True, default='', help_text='It is sent to no other host: names, *.example.com, addresses or networks like 10.0.0.0/8, separated by commas or lines. With :2222 behind it another port is meant than the usual one, with :* any.', validators=[servers.validators.validate_hosts], verbose_name='hosts'),
        ),
        migrations.AddField(
            model_name='credential',
            name='purpose',
            field=models.CharField(choices=[('both', 'Servers and git'), ('servers', 'Servers'), ('git', 'Git')], default='both', max_length=10, verbose_name='used for'),
        ),
        migrations.RunPython(bind, migrations.RunPython.noop),
    ]
