"""`deployer createsuperuser`: Django's, which leaves an entry in the record."""

from typing import Any

from django.contrib.auth.management.commands import createsuperuser

from people.models import User
from people.record import Act, actor, changes, record, snapshot


class Command(createsuperuser.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        users = User.objects.using(options["database"])
        newest = users.order_by("-pk").values_list("pk", flat=True).first() or 0
        super().handle(*args, **options)
        for user in users.filter(pk__gt=newest, is_superuser=True):
            record(actor(), Act.CREATED, user, None, changes({}, snapshot(user))[1])
