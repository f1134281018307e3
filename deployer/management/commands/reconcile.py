"""`manage.py reconcile`: one pass of the sweep that every worker makes all the time."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.management.commandline import OperatorCommand
from deployer.queue.command_sweep import sweep_commands
from deployer.queue.sweep import sweep


class Command(OperatorCommand):
    """Send lost launches again and take over deployments whose worker is gone."""

    summary = gettext_lazy(
        "Sweep once: send launches again that never reached the queue, take over deployments whose worker is gone."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        found, commands = sweep(), sweep_commands()
        for pk in found["again"]:
            self.stdout.write(_("Deployment #%d had not reached the queue: sent again.") % pk)
        for pk in found["lost"]:
            self.stdout.write(_("Deployment #%d had lost its worker: asking its servers how far it came.") % pk)
        for pk in commands["again"]:
            self.stdout.write(_("Command #%d had not reached the queue: sent again.") % pk)
        for pk in commands["lost"]:
            self.stdout.write(_("Command #%d had lost its worker: following what was begun.") % pk)
        if not any((*found.values(), *commands.values())):
            self.stdout.write(_("Nothing to do."))
