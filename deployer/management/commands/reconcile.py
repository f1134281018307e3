"""`deployer reconcile`: one pass of the sweep that every worker makes all the time."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.management.commandline import OperatorCommand
from deployer.queue.command_sweep import sweep_commands
from deployer.queue.sweep import sweep
from deployer.triggers.schedules import fire_due


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
        fired = fire_due()
        for run in fired:
            words = {"schedule": run.schedule, "outcome": run.get_outcome_display(), "why": run.why}
            self.stdout.write(_("Schedule %(schedule)s: %(outcome)s. %(why)s") % words)
        if not any((*found.values(), *commands.values(), fired)):
            self.stdout.write(_("Nothing to do."))
