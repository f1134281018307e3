"""Reads what is in an archive, and refuses anything that could do harm where it is unpacked."""

import hashlib
import tarfile
import unicodedata
from pathlib import Path, PurePosixPath

from django.conf import settings
from django.utils.translation import gettext as _

from projects.commands.manifest import Entry, Manifest
from servers.errors import ShellError


class UnsafeArchiveError(ShellError):
    """An archive that must not be released."""


def check_archive(path: Path) -> Manifest:
    """Return the manifest of an archive.

    Refuses one that could write outside its folder, do harm where it is unpacked, or fill the disk there.

    That is: absolute paths, ``..``, links out, devices and pipes, setuid and setgid files, control characters in names,
    more files or more bytes than the settings allow. It is read as a stream and given up at the first of them.
    """
    entries: dict[str, Entry] = {}
    files = size = 0
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            wrong = what_is_wrong(member)
            if not wrong and member.islnk() and str(PurePosixPath(member.linkname)) not in entries:
                wrong = _("“%(name)s” is a hard link, but the file that it names does not come before it")
            if wrong:
                raise UnsafeArchiveError(
                    _("The release was not packed"),
                    wrong % {"name": member.name.encode("unicode_escape").decode()},
                    _("Keep only plain files, folders, and links that stay within it."),
                )
            files += 1
            size += member.size
            check_limits(files, size)
            name = str(PurePosixPath(member.name))
            if member.islnk():  # it is the file that it names, which came before it
                entries[name] = entries[str(PurePosixPath(member.linkname))]._replace(path=name)
            elif name != ".":
                entries[name] = _entry(archive, member, name)
    return Manifest(entries.values())


def check_limits(files: int, size: int) -> None:
    """Refuse more ``files`` or more bytes than a release may have."""
    if files > settings.DEPLOYER_RELEASE_MAX_FILES or size > settings.DEPLOYER_RELEASE_MAX_MB * 1_000_000:
        raise UnsafeArchiveError(
            _("The release was not packed"),
            _("it has more than %(files)d files or %(size)d MB")
            % {"files": settings.DEPLOYER_RELEASE_MAX_FILES, "size": settings.DEPLOYER_RELEASE_MAX_MB},
            _(
                "Release only what is needed (output_dir in the project), or raise DEPLOYER_RELEASE_MAX_FILES "
                "or DEPLOYER_RELEASE_MAX_MB."
            ),
        )


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> Entry:
    if member.issym():
        return Entry("l", path, link=member.linkname, start=member.offset, end=member.offset_data)
    if member.isdir():
        return Entry("d", path, member.mode & 0o777, start=member.offset, end=member.offset_data)
    padded = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    end = member.offset_data + padded
    return Entry("f", path, member.mode & 0o777, member.size, "", _sha256(archive, member), member.offset, end)


def _sha256(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    digest = hashlib.sha256()
    file = archive.extractfile(member)
    assert file is not None  # noqa: S101 (it is a file)
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def what_is_wrong(member: tarfile.TarInfo) -> str:
    """Why an entry must not be released, with its name as ``%(name)s``; empty if nothing is wrong."""
    name = PurePosixPath(member.name)
    is_link = member.issym() or member.islnk()
    if any(unicodedata.category(character) == "Cc" for character in member.name + member.linkname):
        return _("the name “%(name)s” has a line break or another control character in it")
    if not (member.isfile() or member.isdir() or is_link):
        return _("“%(name)s” is not a file, a folder or a link")
    if name.is_absolute() or ".." in name.parts:
        return _("“%(name)s” leads out of it")
    if is_link and _leads_out(name.parent if member.issym() else PurePosixPath(), PurePosixPath(member.linkname)):
        return _("“%(name)s” leads out of it")
    if member.isfile() and member.mode & 0o6000:
        return _("“%(name)s” would run as its owner (setuid or setgid)")
    return ""


def _leads_out(start: PurePosixPath, link: PurePosixPath) -> bool:
    depth = len([part for part in start.parts if part != "."])
    if link.is_absolute():
        return True
    for part in link.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False
