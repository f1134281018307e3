"""Which entries are taken, by those that came before, and where links lead once all of them are there."""

import unicodedata
from collections.abc import Iterator, Mapping

from deployer.releases.reader.limits import LINKS, NAME, PART, RefusedError
from deployer.releases.reader.members import FILE, FOLDER, HARD_LINK, LINK, OTHER, Member

#: Folders and links that are passed on the way of all links together; only a tangle has more.
_STEPS_EACH = 200


class Rules:
    """The kinds of the entries that were taken, by path, and the rules for the next one."""

    def __init__(self) -> None:
        self.kinds: dict[bytes, str] = {b".": FOLDER}
        self._links: dict[bytes, bytes] = {}

    def check(self, member: Member) -> bytes:
        """The path of an entry that may be taken. Raises `RefusedError`."""
        if wrong := _what_is_wrong(member):
            raise RefusedError(wrong, member.name)
        path = plain_path(member.name)
        kind = FILE if member.kind == HARD_LINK else member.kind
        known = self.kinds.get(path)
        if known not in (None, kind) or (known and member.kind == HARD_LINK):
            raise RefusedError("kinds" if known != kind else "twice", member.name)
        if known is not None and kind != FOLDER:
            raise RefusedError("twice", member.name)
        if member.kind == HARD_LINK and self.kinds.get(plain_path(member.link)) != FILE:
            raise RefusedError("hard", member.name)
        for parent in above(path):
            found = self.kinds.get(parent)
            if found == FOLDER:
                break  # and so is all that is above it
            if found is not None:
                raise RefusedError("below", member.name)
        return path

    def take(self, path: bytes, member: Member) -> None:
        """Remember an entry."""
        self.kinds[path] = FILE if member.kind == HARD_LINK else member.kind
        if member.kind == LINK:
            self._links[path] = member.link

    def missing_folders(self, path: bytes) -> list[bytes]:
        """The folders that an entry lies in and that are not there yet, the outermost first; they are from now on."""
        missing = []
        for parent in above(path):
            if parent in self.kinds:
                break
            missing.append(parent)
        self.kinds.update(dict.fromkeys(missing, FOLDER))
        return missing[::-1]

    def check_links(self) -> None:
        """Refuse a link that leads out by way of other links of the archive."""
        left = _STEPS_EACH * (len(self._links) + 1)
        for path in self._links:
            left -= _steps(path, self._links)
            if left < 0:
                raise RefusedError("tangle", path)


def _steps(path: bytes, links: Mapping[bytes, bytes]) -> int:
    """Follow a link as a kernel does, through the entries; gives the number of steps. Raises `RefusedError`.

    A circle, and what leads over too many links, leads nowhere.
    """
    here = path.split(b"/")[:-1]
    todo = links[path].split(b"/")[::-1]
    steps = followed = 0
    while todo:
        part = todo.pop()
        steps += 1
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not here:
                raise RefusedError("chain", path)
            here.pop()
            continue
        here.append(part)
        target = links.get(b"/".join(here))
        if target is not None:
            followed += 1
            if followed == LINKS:
                break
            here.pop()
            todo += target.split(b"/")[::-1]
    return steps


def plain_path(name: bytes) -> bytes:
    """A relative path without what says nothing in it: ``./a//b/`` is ``a/b``."""
    if name and name[:1] not in (b"/", b".") and b"//" not in name and b"/." not in name and name[-1:] != b"/":
        return name
    return b"/".join(part for part in name.split(b"/") if part not in (b"", b".")) or b"."


def above(path: bytes) -> Iterator[bytes]:
    """The folders that a path lies in, the innermost first."""
    while (end := path.rfind(b"/")) > 0:
        path = path[:end]
        yield path


def _what_is_wrong(member: Member) -> str:
    """The code of why an entry must not be released, whatever else is there; empty if nothing is wrong."""
    name, link = member.name, member.link
    if b"\0" in name + link or _has_controls(name) or _has_controls(link):
        return "control"
    if len(name) > NAME or len(link) > NAME:
        return "long"
    if max(map(len, name.split(b"/"))) > PART:
        return "part"
    if member.kind == OTHER:
        return "kind"
    if name[:1] == b"/" or b".." in name.split(b"/"):
        return "out"
    if member.kind == LINK and not link:
        return "empty"
    if member.kind in (LINK, HARD_LINK):
        start = plain_path(name).count(b"/") if member.kind == LINK else 0
        if _leads_out(start, link):
            return "out"
    if member.kind == FILE and member.mode & 0o6000:
        return "setuid"
    return ""


def _has_controls(name: bytes) -> bool:
    text = name.decode(errors="surrogateescape")
    return not text.isprintable() and any(unicodedata.category(character) == "Cc" for character in text)


def _leads_out(depth: int, link: bytes) -> bool:
    if link[:1] == b"/":
        return True
    for part in link.split(b"/"):
        if part == b"..":
            depth -= 1
        elif part not in (b"", b"."):
            depth += 1
        if depth < 0:
            return True
    return False
