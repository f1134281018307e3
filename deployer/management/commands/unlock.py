"""``deployer unlock PROJECT``: lift the locks of a project or an environment, as the page does."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.gates import keeping
from deployer.management.commandline import login_of_machine, refused
from deployer.management.gate_commands import GateCommand
from deployer.models import Lock


class Command(GateCommand):
    summary = gettext_lazy("Lift the locks of a project or an environment.")

    def act(self, options: dict[str, Any]) -> None:
        locks = list(Lock.objects.closed().filter(**self.place(options)).select_related("project", "made_by"))
        if not locks:
            raise refused(_("Nothing is locked there."))
        for lock in locks:
            lifted = keeping.lift_lock(lock, self.acting, login_of_machine())
            self.stdout.write(keeping.lifted_sentence(lock, lifted))
