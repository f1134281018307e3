"""The jobs of a worker. `deployer.queue.sending` names them by text; jobs that wait on a queue do so too."""

from deployer.board.sightings import refresh_old
from deployer.engine.routines import carry_out, settle_lost


def run_deployment(deployment_id: int) -> None:
    """Carry out one deployment."""
    carry_out(deployment_id)


def settle_deployment(deployment_id: int) -> None:
    """Find out what is true of a deployment whose worker was lost."""
    settle_lost(deployment_id)


def look_at_servers() -> None:
    """See what the servers run, where nobody has looked lately."""
    refresh_old()
