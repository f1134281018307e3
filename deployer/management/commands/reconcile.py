"""`manage.py reconcile`: one pass of the sweep that every worker makes all the time."""

from typing import Any

from django.core.management.base import BaseCommand

from deployer.sweep import sweep


class Command(BaseCommand):
    """Send lost launches again and take over deployments whose worker is gone."""

    help = "One pass of the sweep: launches that never reached the queue, deployments whose worker is gone."

    def handle(self, *args: Any, **options: Any) -> None:
        found = sweep()
        for pk in found["again"]:
            self.stdout.write(f"Deployment #{pk} had not reached the queue: sent again.")
        for pk in found["lost"]:
            self.stdout.write(f"Deployment #{pk} had lost its worker: its servers are being asked.")
        if not any(found.values()):
            self.stdout.write("Nothing to do.")
