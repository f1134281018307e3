"""A whole log as text."""

from collections.abc import Iterator

from django.utils import formats
from django.utils.translation import gettext as _

from deployer.log import terminal
from deployer.log.books import Logged
from deployer.log.stored import StoredLog
from deployer.models import Deployment

#: Lines that are read and sent at once.
ROWS = 2000


def text_of(it: Logged) -> Iterator[str]:
    """The lines as text. They are read a page at a time: no page waits for who takes them slowly, nor the database.

    They are sent so, too: line by line, it takes the processor twice as long.
    """
    names = dict(it.targets.values_list("pk", "server_name"))
    log = StoredLog.of(it)
    if isinstance(it, Deployment) and it.log_gone_at is not None:
        yield _("The log was deleted on %s, because of its age.") % formats.localize(it.log_gone_at) + "\n"
    last = 0
    while lines := log.after(last, ROWS):
        last = lines[-1].pk
        yield "".join(
            f"{line.timestamp.isoformat(timespec='milliseconds')} {names.get(line.target_id, '-')} "
            f"{line.stream}/{line.level} {terminal.plain(line.content)}\n"
            for line in lines
        )
