"""The jobs of a worker. `deployer.queue.sending` names them by text; jobs that wait on a queue do so too."""

from deployer.board.sightings import refresh_old
from deployer.engine.routines import carry_out, settle_lost

#: The claim under which the next job takes a deployment: a worker sets it before it forks, and so knows it too.
claim = ""


def run_deployment(deployment_id: int) -> None:
    """Carry out one deployment."""
    carry_out(deployment_id, claim)


def settle_deployment(deployment_id: int) -> None:
    """Find out what is true of a deployment whose worker was lost."""
    settle_lost(deployment_id, claim)


def look_at_servers() -> None:
    """See what the servers run, where nobody has looked lately."""
    refresh_old()
