"""Promises of the reader of archives: it reads what `tarfile` and `zipfile` read, and of the rest it says why not."""

import io
import lzma
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.releases.contents import LINE
from deployer.releases.reader.limits import Limits, RefusedError
from deployer.releases.reader.rules import plain_path
from deployer.releases.reader.streams import Source
from deployer.releases.reader.tars import TarReader
from deployer.releases.reader.work import Package, check, copy, members
from tests.deployer.test_packages import SQUEEZE, entry, packed

#: What a damaged archive may make of the libraries; `reader.__main__` says each of these as a refusal.
DOCUMENTED = (
    RefusedError,
    ValueError,
    EOFError,
    OSError,
    lzma.LZMAError,
    zlib.error,
    zstandard.ZstdError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    MemoryError,
)
LIMITS = Limits(files=200, size=1_000_000)
KINDS = (*SQUEEZE, ".zip")

_names = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1, max_size=40)
_paths = st.lists(_names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4).map("/".join)


def read(kind: str, data: bytes, folder: Path) -> list[bytes]:
    """The lines of the manifest of a package, which is copied and then checked as a build's archive is."""
    lines: list[bytes] = []
    with (folder / "copy.tar").open("w+b") as target:
        copy(Package(kind, b"a"), io.BytesIO(data), target, LIMITS, lines.append)
        again: list[bytes] = []
        target.seek(0)
        check(".tar", target, LIMITS, again.append)
    assert again == lines
    return lines


@given(kind=st.sampled_from(KINDS), data=st.data())
def test_whatever_bytes_are_changed_it_is_read_or_refused(tmp_path_factory, kind, data):
    whole = bytearray(packed(kind))
    for _change in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        what = data.draw(st.sampled_from(["cut", "byte", "swap", "repeat"]))
        if what == "cut":
            whole = whole[:at] or whole
        elif what == "byte":
            whole[at] = data.draw(st.integers(0, 255))
        elif what == "swap":
            other = data.draw(st.integers(0, len(whole) - 1))
            whole[at : at + 8], whole[other : other + 8] = whole[other : other + 8], whole[at : at + 8]
        else:
            whole[at:at] = whole[at : at + 512]
    try:
        lines = read(kind, bytes(whole), tmp_path_factory.getbasetemp())
    except DOCUMENTED:
        return
    assert all(LINE.fullmatch(line[:-1]) for line in lines)


@given(kind=st.sampled_from(KINDS), data=st.binary(max_size=3000))
def test_whatever_bytes_come_they_are_refused(tmp_path_factory, kind, data):
    try:
        lines = read(kind, data, tmp_path_factory.getbasetemp())
    except DOCUMENTED:
        return
    assert not lines


@given(block=st.binary(min_size=512, max_size=512), rest=st.binary(max_size=2048))
def test_whatever_a_header_says_with_a_good_checksum_it_is_read_or_refused(block, rest):
    header = bytearray(block)
    header[257:263] = b"ustar\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    try:
        for member in TarReader(Source(io.BytesIO(bytes(header) + rest)), LIMITS):
            for _piece in member.pieces:
                pass
    except DOCUMENTED:
        pass


@given(
    files=st.dictionaries(_paths, st.binary(max_size=2000), min_size=1, max_size=8),
    layout=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
@example({"n" * 200 + "/" + "m" * 200: b"x"}, tarfile.GNU_FORMAT)
@example({"ü" * 90: b"x", "a/b": b""}, tarfile.PAX_FORMAT)
def test_a_tar_is_read_as_tarfile_reads_it(files, layout):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=layout) as archive:
        for name, content in files.items():
            try:
                archive.addfile(entry(name, size=len(content), mtime=1234, mode=0o640), io.BytesIO(content))
            except ValueError:  # this layout cannot hold that name
                return
    found = {
        member.name.decode(): (b"".join(member.pieces), member.mtime, member.mode)
        for member in TarReader(Source(io.BytesIO(data.getvalue())), LIMITS)
    }
    assert found == {name: (content, 1234, 0o640) for name, content in files.items()}


@pytest.mark.parametrize("layout", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar_come_with_their_holes(tmp_path, layout):
    with (tmp_path / "sparse").open("wb") as file:
        for number in range(40):
            file.seek(number * 20_000)
            file.write(b"%d" % number)
        file.truncate(900_000)
    form = ["--format=gnu"] if layout == "gnu" else ["--format=pax", f"--sparse-version={layout}"]
    made = ["tar", "-S", "--hole-detection=raw", *form, "-cf", "a.tar", "sparse"]
    subprocess.run(made, cwd=tmp_path, check=True)
    data = (tmp_path / "a.tar").read_bytes()
    assert len(data) < 400_000
    found = {
        member.name: b"".join(member.pieces) for member in members(Package(".tar", b"a"), io.BytesIO(data), LIMITS)
    }
    assert found == {b"sparse": (tmp_path / "sparse").read_bytes()}


@pytest.mark.parametrize("kind", [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"])
def test_streams_that_were_put_together_are_read_as_one(tmp_path, kind):
    plain = packed(".tar")
    parts = [plain[start : start + 3000] for start in range(0, len(plain), 3000)]
    assert read(kind, b"".join(map(SQUEEZE[kind], parts)), tmp_path) == read(".tar", plain, tmp_path)


@given(st.text("ab./", max_size=12).filter(lambda name: not name.startswith("/")))
def test_a_path_is_made_plain_as_pathlib_does_it(name):
    assert plain_path(name.encode()).decode() == str(PurePosixPath(name))
