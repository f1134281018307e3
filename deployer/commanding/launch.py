"""Writes a command that is accepted, with its servers, and puts it on the queue; stops one. Both are recorded."""

import hashlib
from typing import Any

from django.db import transaction
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _

from deployer.commanding.asked import AcceptedCommand, CommandRequest, check, insist_on_meant
from deployer.models import CommandRun, CommandTarget
from deployer.queue.sending import enqueue_command
from people.fingerprints import fingerprint
from people.record import Act, actor, record
from servers.sentences import as_stored


def run_command(asked: CommandRequest) -> CommandRun:
    """Write the run and send it to a worker. Raises `CommandRefusedError` or `NotAllowedError`."""
    accepted = check(asked)
    insist_on_meant(asked, accepted)
    with transaction.atomic():
        run = _written(asked, accepted)
        record(actor().by(asked.created_by), Act.LAUNCHED, run, None, _as_recorded(run, accepted))
        transaction.on_commit(lambda: enqueue_command(run.pk))
    return run


def _written(asked: CommandRequest, accepted: AcceptedCommand) -> CommandRun:
    run = CommandRun.objects.create(
        command=asked.saved,
        name=accepted.name,
        script=accepted.script,
        values=dict(accepted.values) or None,
        secret_names=[*accepted.secret_names],
        run_as=accepted.run_as,
        timeout=accepted.timeout,
        one_by_one=accepted.one_by_one,
        not_while_deploying=accepted.not_while_deploying,
        environments=f",{','.join(accepted.environments)},",
        created_by=asked.created_by,
        trigger=asked.trigger,
        launched_for=asked.launched_for,
    )
    with as_stored():
        inactive = _("The server is not active.")
    CommandTarget.objects.bulk_create(
        CommandTarget(
            run=run,
            server=server,
            server_name=server.name,
            host=server.address,
            status=CommandTarget.Status.PENDING if server.is_active else CommandTarget.Status.SKIPPED,
            error="" if server.is_active else inactive,
            run_key=get_random_string(32, "0123456789abcdef"),
        )
        for server in accepted.servers
    )
    return run


def _as_recorded(run: CommandRun, accepted: AcceptedCommand) -> dict[str, Any]:
    """What was asked for. A text that is too long for the record is told by its digest; the run keeps it whole."""
    parameters = {
        name: fingerprint(value, f"command.{name}") if name in accepted.secret_names and value else value
        for name, value in accepted.values.items()
    }
    values = {
        "script": run.script,
        "sha256": hashlib.sha256(run.script.encode(errors="surrogatepass")).hexdigest(),
        "command": str(run.command or ""),
        "parameters": parameters,
        "servers": [server.name for server in accepted.servers],
        "run_as": run.run_as,
        "timeout": run.timeout,
        "one_by_one": run.one_by_one,
        "not_while_deploying": run.not_while_deploying,
        "trigger": run.trigger,
    }
    return {name: value for name, value in values.items() if value not in ("", False, {})}


def cancel_command(run: CommandRun) -> bool:
    """Ask it to stop, as `CommandRun.request_cancel` does. Says whether it was active."""
    with transaction.atomic():
        status = run.status
        asked = run.request_cancel()
        if asked:
            record(actor(), Act.CANCELLED, run, {"status": status}, {"status": run.status})
    return asked


def cancel_sentence(run: CommandRun, asked: bool) -> str:
    """The outcome of a request to cancel; ``asked`` is the answer of `cancel_command`."""
    words = {"number": run.pk, "status": run.get_status_display().lower()}
    if not asked:
        return _("Command #%(number)s has already ended (%(status)s): there is nothing to cancel.") % words
    if not run.is_active:
        return _("Command #%(number)s is cancelled; it had not started.") % words
    return _("Command #%(number)s was asked to stop: what runs on servers is ended, the rest is not started.") % words
