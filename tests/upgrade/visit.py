"""``python -m tests.upgrade.visit`` looks at a data folder of the settings as its people do, and prints it as JSON."""

import json
import os
from datetime import time
from types import SimpleNamespace
from typing import Any, cast


def visit() -> dict[str, Any]:
    """Every page as one of its users sees it, and what is encrypted, hashed or stored."""
    from django.conf import settings
    from django.contrib.auth import authenticate
    from django.test import Client
    from django.urls import reverse
    from django.utils import timezone

    from deployer.models import (
        Channel,
        CommandRun,
        Delivery,
        Deployment,
        Freeze,
        GateRule,
        Release,
        SavedCommand,
        Schedule,
        Train,
        TrainRun,
        Webhook,
    )
    from deployer.plan import Plan
    from deployer.releases.archives import Archive
    from people.models import Team, User
    from projects.models import ConfigFile, Project, Template, Variable, VariableSet
    from servers.keys import openssh_key
    from servers.models import Credential, Server, ServerGroup
    from tests.parts.html import tight
    from tests.site import PAGES, World, address_of
    from tests.upgrade.world import GOOD, PASSWORD, TOKEN, USER

    host = {"host": settings.ALLOWED_HOSTS[0]}
    client = Client(headers=host)
    client.force_login(User.objects.get(username=USER))
    shop = Project.objects.get(name="shop")
    full = shop.deployments.filter(deployment_type="full")
    webhook = Webhook.objects.create(project=shop, name="push", provider="github")
    rows = SimpleNamespace(
        project=shop,
        server=Server.objects.get(name="web-1"),
        group=ServerGroup.objects.get(name="web"),
        credential=Credential.objects.get(name="deploy-key"),
        release=Release.objects.get(version=GOOD),
        older=full.earliest("id"),
        ended=full.filter(status="failed").latest("id"),
        running=Deployment.objects.get(finished_at=None),
        target=Deployment.objects.get(finished_at=None).targets.all()[0],
        person=User.objects.get(username=USER),
        robot=User.objects.create_user("robot", is_service=True),
        team=Team.objects.create(name="team"),
        # Later than these rows: nothing was archived, no deployment waited, and nothing stood before one.
        archived=Project.objects.create(name="over", environment="development", archived_at=timezone.now()),
        waiting=Deployment.objects.get(finished_at=None),
        rule=GateRule.objects.create(environment="development", needs_approval=True),
        file=ConfigFile.objects.create(project=shop, path="/etc/shop.conf", content="x"),
        set=VariableSet.objects.create(name="all"),
        template=Template.objects.create(name="all"),
        command=SavedCommand.objects.create(name="all", script="true"),
        command_run=CommandRun.objects.create(name="all", script="true", environments=",development,", status="done"),
        asking=Deployment.objects.get(finished_at=None),
        train=Train.objects.create(name="all"),
        train_run=TrainRun.objects.create(name="all", status="success", finished_at=timezone.now()),
        webhook=webhook,
        delivery=Delivery.objects.create(
            webhook=webhook, project=shop, identifier="1", event="push", kind="push", received_at=timezone.now()
        ),
        channel=Channel.objects.create(name="all", kind="slack", address={"url": "https://hooks.example.com/x"}),
        freeze=Freeze.objects.create(environment="development", weekdays="0", begins_at=time(0), ends_at=time(1)),
        schedule=Schedule.objects.create(project=shop, name="nightly", cron="30 2 * * *"),
    )
    rows.train_run.stops.create(
        position=1, project=shop, project_name="shop", environment="development", deployment_type="full"
    )
    addresses = {name: address_of(name, cast(World, rows)) for name in PAGES}
    for it in Deployment.objects.all():
        addresses[f"{it.deployment_type} {it.status} {it.pk}"] = it.get_absolute_url()
        addresses[f"log of {it.pk}"] = reverse("deployment_log", args=[it.pk])
    pages = {}
    for name, address in addresses.items():
        answer = client.get(address, follow=name in PAGES)
        pages[name] = answer.status_code, tight(b"".join(answer).decode())
    key = rows.credential
    archive = Archive(rows.release)
    try:
        sent = archive.whole(["zstd"]).size
    finally:
        archive.close()
    api = Client(headers=host | {"authorization": f"Bearer {TOKEN}"})
    return {
        "pages": pages,
        "key opens": openssh_key(key.private_key, key.passphrase).startswith("-----BEGIN OPENSSH PRIVATE KEY-----"),
        "passwords": [row.password for row in Credential.objects.exclude(password="")],
        "hosts": {row.name: [row.purpose, *row.host_patterns] for row in Credential.objects.all()},
        "variables": {row.name: row.value for row in Variable.objects.exclude(value="")},
        "plans": sorted({Plan.from_json(cast(Any, it.plan)).name for it in Deployment.objects.all()}),
        "logs in": getattr(authenticate(username=USER, password=PASSWORD), "username", None),
        "archive": [sent, rows.release.size],
        "api": api.get("/api/v1/deployments").json(),
    }


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")
    import django

    django.setup()
    print(json.dumps(visit()))
