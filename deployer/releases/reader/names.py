"""The encodings of names in archives that do not say theirs: one that was chosen, or UTF-8 where it is certain."""

import re
import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from deployer.releases.reader.limits import RefusedError
from deployer.releases.reader.members import Member


class Encoding(NamedTuple):
    """What people call an encoding, and Python's name for it as Windows has it."""

    label: str
    codec: str


ENCODINGS = {
    "utf-8": Encoding("UTF-8", "utf-8"),
    "gbk": Encoding("GBK", "gb18030"),
    "shift-jis": Encoding("Shift-JIS", "cp932"),
    "big5": Encoding("Big5", "cp950"),
    "euc-kr": Encoding("EUC-KR", "cp949"),
    "cp437": Encoding("CP437", "cp437"),
}
#: The head of a sequence of three or four bytes. Text of another encoding is hardly ever UTF-8 with one of these in it;
#: with sequences of two bytes it easily is: the GBK of the Chinese word for folder is one.
_LONG_SEQUENCE = re.compile(rb"[\xe0-\xf4]")
#: The extra field of a zip's entry that has its name in UTF-8, with a checksum of the name that it stands for.
_UNICODE_PATH = 0x7075


def chosen_for(names: Iterable[bytes], chosen: str, *, of_windows: bool) -> str:
    """The encoding of all ``names`` of an archive that does not say it; empty where it is not known."""
    loose = [name for name in names if not name.isascii()]
    is_certain = any(map(_LONG_SEQUENCE.search, loose)) or not (chosen or of_windows)
    return "utf-8" if is_certain and all(map(_is_utf8, loose)) else chosen


def in_utf8(name: bytes, encoding: str) -> bytes:
    """``name`` in UTF-8. Raises `RefusedError` where it is not in ``encoding``, or that is not known."""
    if name.isascii():
        return name
    try:
        return name.decode(ENCODINGS[encoding].codec).encode()
    except (KeyError, UnicodeError):
        raise RefusedError("encoding", name) from None


def with_known_names(member: Member, chosen: str) -> Member:
    """``member`` of a tar, which is read forwards: each name is looked at alone."""
    if not member.is_utf8 or not _is_utf8(member.name + member.link):
        of_name = chosen_for([member.name], chosen, of_windows=False)
        of_link = chosen_for([member.link], chosen, of_windows=False)
        member.name, member.link = in_utf8(member.name, of_name), in_utf8(member.link, of_link)
    return member


def unicode_path(extra: bytes, name: bytes) -> bytes | None:
    """The name that an extra field of a zip's entry gives in UTF-8; nothing where it stands for another name."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + size]
        at += 4 + size
        if kind == _UNICODE_PATH and size > 5 and field[0] == 1:
            (checksum,) = struct.unpack_from("<L", field, 1)
            if checksum == zlib.crc32(name) and _is_utf8(field[5:]):
                return field[5:]
    return None


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
