"""A server joins its rollout again: behind a pause that held no link, or for another try."""

from deployer.engine.server_run import ServerRun
from deployer.engine.steps import prepare


def rejoin(server: ServerRun) -> None:
    """Reach a server again, and see to it that what is deployed is there, whole and prepared.

    One that was switched keeps what it goes back to. Nothing where it never was away.
    """
    if not server.is_to_join:
        return
    if server.facts is None:
        server.connect()
        server.preflight()
    if not (server.switched or server.work.deployment.keeps_release):
        server.stage()
        prepare(server)
    server.is_to_join = False


def bring(server: ServerRun) -> None:
    """Put what is deployed on a server and make it ready there, with the link that it has or a new one."""
    server.is_to_join = True
    rejoin(server)


def join(server: ServerRun) -> None:
    """The same as the whole of an attempt, before anything is switched."""
    server.attempt(rejoin)
