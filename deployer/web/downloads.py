"""Downloads that are sent while they are read: few at once. The web server ends one that nobody takes."""

from collections.abc import Iterator
from threading import BoundedSemaphore

from django.http import StreamingHttpResponse

#: Downloads that one process of the web server sends at once: its other threads are there for the pages.
AT_ONCE = 2
_PLACES = BoundedSemaphore(AT_ONCE)


class _Sent:
    """A text as it is sent, which gives its place back however it ends: also one of which nothing was ever read."""

    def __init__(self, text: Iterator[str]) -> None:
        self._text = text
        self._holds = True

    def __iter__(self) -> Iterator[str]:
        return self._text

    def close(self) -> None:
        if self._holds:
            self._holds = False
            _PLACES.release()


def download(text: Iterator[str], name: str, kind: str = "text/plain") -> StreamingHttpResponse | None:
    """A file of text, of that media type; nothing where as many as may be are sent already."""
    if not _PLACES.acquire(blocking=False):
        return None
    return StreamingHttpResponse(
        _Sent(text),
        content_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
