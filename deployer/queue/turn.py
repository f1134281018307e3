"""What is asked once more when a deployment gets its turn: whether its launcher still has the right to it."""

from django.utils.translation import gettext as _

from deployer.models import Deployment
from people.rights import may
from people.roles import Action


def refusal_at_turn(deployment_id: int) -> str:
    """Why a deployment that no worker has taken yet is not begun, as a sentence; empty if it may be."""
    pending = Deployment.objects.pending().select_related("project", "created_by").defer("plan")
    it = pending.filter(pk=deployment_id).first()
    if it is None or _is_allowed(it):
        return ""
    if it.created_by is None:
        return _("Whoever launched it is no longer a user: launch it again.")
    return _("%s no longer has the right to launch this: somebody who has it can launch it again.") % it.created_by


def _is_allowed(it: Deployment) -> bool:
    if it.trigger == Deployment.Trigger.CLI and it.created_by is None:
        return True  # on this machine, by whoever has the data folder
    things = it.project.reached_by_launch(it.server_groups.all())
    return all(may(it.created_by, Action.OPERATE, thing) for thing in (it, *things))
