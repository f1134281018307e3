"""Compressed streams read forwards, each with a bound on the memory that it asks for."""

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from typing import IO, Any

import zstandard

from deployer.releases.reader.limits import PIECE, WINDOW


class _Xz:
    """Like `lzma.LZMAFile`, which knows no limit of memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._stream = lzma.LZMADecompressor(memlimit=WINDOW)
        self._is_first = True

    def read(self, size: int) -> bytes:
        while True:
            data = b""
            if self._stream.eof:
                if not (data := self._next_stream()):
                    return b""
                self._stream, self._is_first = lzma.LZMADecompressor(memlimit=WINDOW), False
            elif self._stream.needs_input and not (data := self._file.read(PIECE)):
                raise EOFError("the compressed data ends too early")
            try:
                found = self._stream.decompress(data, size)
            except lzma.LZMAError:
                if self._is_first or self._stream.needs_input:
                    raise
                return b""  # what comes behind a stream and is none is left alone, as by xz
            if found:
                return found

    def _next_stream(self) -> bytes:
        """What comes behind a stream and the zeros that may fill it up."""
        data = self._stream.unused_data
        while not (data := data.lstrip(b"\0")):
            if not (data := self._file.read(PIECE)):
                return b""
        return data


def _zstd(file: IO[bytes]) -> Any:
    made = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    return made.stream_reader(file, read_size=PIECE, read_across_frames=True)


#: How the plain archive is read out of each kind of compressed one.
OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".tar": lambda file: file,
    ".tar.gz": lambda file: gzip.GzipFile(fileobj=file),
    ".tgz": lambda file: gzip.GzipFile(fileobj=file),
    ".tar.bz2": bz2.BZ2File,
    ".tar.xz": _Xz,
    ".tar.zst": _zstd,
}


class Source:
    """A stream that is read forwards in exact amounts. ``at`` is how far it has been read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._buffer = b""
        self._next = 0
        self.at = 0

    def upto(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end of the stream; of no more than a few headers at once."""
        if self._next + size > len(self._buffer):
            parts = [self._buffer[self._next :]]
            have = len(parts[0])
            while have < size and (piece := self._stream.read(PIECE)):
                parts.append(piece)
                have += len(piece)
            self._buffer, self._next = b"".join(parts), 0
        found = self._buffer[self._next : self._next + size]
        self._next += len(found)
        self.at += len(found)
        return found

    def exactly(self, size: int) -> bytes:
        """The next ``size`` bytes; raises `EOFError` where there are fewer."""
        found = self.upto(size)
        if len(found) != size:
            raise EOFError("it ends too early")
        return found

    def pieces(self, size: int) -> Iterator[bytes]:
        """The next ``size`` bytes in pieces."""
        while size:
            piece = self._some(min(size, PIECE))
            size -= len(piece)
            yield piece

    def _some(self, most: int) -> bytes:
        """Up to ``most`` bytes: what is here already, else one piece of the stream."""
        if self._next == len(self._buffer):
            self._buffer, self._next = self._stream.read(PIECE), 0
            if not self._buffer:
                raise EOFError("it ends too early")
        found = self._buffer[self._next : self._next + most]
        self._next += len(found)
        self.at += len(found)
        return found

    def skip(self, size: int) -> None:
        """Pass over ``size`` bytes."""
        for _piece in self.pieces(size):
            pass
