"""A whole log as text."""

from collections.abc import Iterator

from deployer.log import terminal
from deployer.log.books import Logged, book_of

#: Lines that are read and sent at once.
ROWS = 2000


def text_of(it: Logged) -> Iterator[str]:
    """The lines as text. They are read a page at a time: no page waits for who takes them slowly, nor the database.

    They are sent so, too: line by line, it takes the processor twice as long.
    """
    names = dict(it.targets.values_list("pk", "server_name"))
    columns = ("pk", "timestamp", "target_id", "stream", "level", "content")
    lines = book_of(it).lines.objects.of(it.pk)
    last = 0
    while rows := list(lines.filter(id__gt=last).values_list(*columns)[:ROWS]):
        last = rows[-1][0]
        yield "".join(
            f"{timestamp.isoformat(timespec='milliseconds')} {names.get(target, '-')} {stream}/{level} "
            f"{terminal.plain(content)}\n"
            for _pk, timestamp, target, stream, level, content in rows
        )
