"""The jobs of a worker. `deployer.queue.sending` names them by text; jobs that wait on a queue do so too."""

from collections.abc import Callable, Collection

from django.utils.translation import gettext as _
from redis.exceptions import RedisError

from deployer import ids
from deployer.board.sightings import refresh_old
from deployer.commanding import work as commands
from deployer.engine.routines import carry_out, help_with, resume, settle_lost
from deployer.engine.run import Others
from deployer.following import work as following
from deployer.host.kinds import QUEUES, Kind
from deployer.models import Delivery, Deployment
from deployer.queue.command_sweep import command_not_begun
from deployer.queue.sending import deployments_wait, enqueue_help, enqueue_resumption, is_taken, kept_up
from deployer.queue.sweep import not_begun
from deployer.queue.turn import call_up_after, refusal_at_turn
from deployer.trains.driving import drive_after
from deployer.triggers.judging import judge_deliveries as judge_all
from deployer.upkeep import going
from people.acting import Actor, of_process
from servers.fields import DecryptionError

#: The claim under which the next job takes a deployment: a worker sets it before it forks, and so knows it too.
claim = ""
#: The queues that the worker takes from.
queues: Collection[str] = QUEUES


def run_deployment(deployment_id: int) -> None:
    """Carry out one deployment, if that is still allowed: else it ends, and no server is touched."""
    _try(_begin, deployment_id)


def _begin(deployment_id: int, claim: str) -> bool:
    if refusal := refusal_at_turn(deployment_id):
        not_begun(deployment_id, refusal, try_again=False)
        return False
    try:
        return carry_out(deployment_id, claim, _others())
    finally:
        _go_on_after(deployment_id)


def resume_deployment(deployment_id: int) -> None:
    """Go on with a deployment that was parked, unless somebody else does."""
    _try(_resume, deployment_id)


def _resume(deployment_id: int, claim: str) -> bool:
    try:
        return resume(deployment_id, claim, _others())
    finally:
        _go_on_after(deployment_id)


def _others() -> Others:
    """What is left to other workers: builds and deployments that are not taken here."""
    return Others(enqueue_help, _others_build, deploys=Kind.DEPLOY.own_queue in queues)


def _others_build() -> bool:
    """Whether builds are taken, and not here. What cannot be asked of the queue is done here."""
    own = Kind.BUILD.own_queue
    try:
        return own not in queues and is_taken(own)
    except (RedisError, OSError):
        return False


def _go_on_after(deployment_id: int) -> None:
    """What comes next: itself, by another worker, those in line behind it, and the train that it is a stop of."""
    if left := Deployment.objects.due().filter(pk=deployment_id).defer("plan").first():
        enqueue_resumption(deployment_id, is_to_build=left.is_to_build)
    call_up_after(deployment_id)
    drive_after(deployment_id)


def settle_deployment(deployment_id: int) -> None:
    """Find out what is true of a deployment whose worker was lost."""
    _try(settle_lost, deployment_id)


def help_deployment(deployment_id: int, slice_id: int) -> None:
    """Help with a deployment that another worker carries out, until another one waits for this worker."""
    ids.carry_out(deployment_id)
    try:
        with of_process(Actor.of_job(f"deployment #{deployment_id}")):
            help_with(deployment_id, slice_id, claim, lambda: not deployments_wait())
    finally:
        ids.carry_out(None)


def _try(carry: Callable[[int, str], bool], deployment_id: int) -> None:
    """What fails before the deployment was taken is said in its log. No other try opens a plan that cannot be read."""
    ids.carry_out(deployment_id)
    try:
        with of_process(Actor.of_job(f"deployment #{deployment_id}")):
            carry(deployment_id, claim)
    except DecryptionError as error:
        not_begun(deployment_id, str(error), try_again=False)
        raise
    except Exception as error:
        not_begun(deployment_id, _("deployer itself failed: %s") % f"{type(error).__name__}: {error}")
        raise
    finally:
        ids.carry_out(None)


def run_command(run_id: int) -> None:
    """Carry out one run of a command, if that is still allowed: else it ends, and no server is touched."""
    _try_command(commands.carry_out, run_id)


def settle_command(run_id: int) -> None:
    """Follow what a lost worker had begun of a run of a command."""
    _try_command(commands.settle_lost, run_id)


def _try_command(carry: Callable[[int, str], bool], run_id: int) -> None:
    """What fails before the run was taken is said in its log."""
    try:
        with of_process(Actor.of_job(f"command #{run_id}")):
            carry(run_id, claim)
    except Exception as error:
        command_not_begun(run_id, _("deployer itself failed: %s") % f"{type(error).__name__}: {error}")
        raise


def follow_logs() -> None:
    """Follow the logs of applications that somebody looks at, as long as anybody does."""
    with of_process(Actor.of_job("follow logs")):
        following.follow_logs()


def judge_deliveries() -> None:
    """Find out what becomes of all that was sent to webhooks."""
    try:
        judge_all(claim)
    except Exception as error:
        why = _("deployer itself failed: %s") % f"{type(error).__name__}: {error}"
        Delivery.put_back(Delivery.objects.filter(claim=claim), why)
        raise


def keep_up() -> None:
    """Delete and pack what is old: a little of it, unless a deployment is at work."""
    with of_process(Actor.of_job("upkeep")):
        if going.keep_up():
            kept_up()


def look_at_servers() -> None:
    """See what the servers run, where nobody has looked lately."""
    with of_process(Actor.of_job("look at servers")):
        refresh_old()
