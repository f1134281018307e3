"""Packages, archives in the store and lists of servers that are made to fill, to hang or to lead out."""

import bz2
import gzip
import io
import lzma
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import zstandard
from django.conf import settings
from django.core.files.base import ContentFile
from django.test import Client, override_settings
from django.urls import reverse

from deployer.engine.routines import carry_out
from deployer.models import Release
from deployer.releases import workfolders
from deployer.releases.archives import Archive, manifest_of
from deployer.releases.contents import UnsafeArchiveError
from deployer.releases.packages import store_package
from deployer.settings import storage
from projects.models import Project
from servers.errors import TransferError
from servers.imports import ansible, openssh
from servers.imports.listing import MAX_BYTES, UnreadableListingError
from tests.deployer.test_packages import entry, packed, tar_of, zip_of, zipped
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.programs import wait_until
from tests.parts.s3 import BUCKET, s3_server
from tests.parts.sshd import OpenSSHServer
from tests.security.table import attack

_MB = 1 << 20
#: What a reader takes of memory without an archive, and what it may take for a hostile one, in MB.
_GENEROUS = 300


def _project(folder: Path) -> Project:
    (folder / "restart.sh").write_text("echo fine")
    return make_project(git_url="", deploy_path=str(folder / "place"), deploy_script_path=str(folder / "restart.sh"))


def _left_over() -> list[str]:
    """What lies in the data folder that belongs to no release."""
    builds = settings.BUILDS_DIR
    found = [*builds.iterdir()] if builds.exists() else []
    return sorted(str(path) for path in found if workfolders.KINDS.fullmatch(path.name))


@contextmanager
def _watched_children() -> Iterator[list[int]]:
    """Gives a list of one number, afterwards the most memory in MB that a reader had meanwhile."""
    most = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            for task in Path(f"/proc/{os.getpid()}/task").iterdir():
                try:
                    for pid in (task / "children").read_text().split():
                        # In this order: until it is the reader, its memory is that of this process.
                        if b"deployer.releases.reader" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                            continue
                        text = Path(f"/proc/{pid}/status").read_text()
                        row = next((row for row in text.splitlines() if row.startswith("VmHWM")), "VmHWM: 0")
                        most[0] = max(most[0], int(row.split()[1]) >> 10)
                except OSError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def _refused(folder: Path, name: str, data: bytes, why: str, *, most: int = _GENEROUS) -> str:
    """Try to store a package; gives the refusal, which says ``why``."""
    project = _project(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with _watched_children() as memory:
        try:
            release = store_package(project, name, io.BytesIO(data))
        except UnsafeArchiveError as error:
            said = str(error)
        else:
            raise AssertionError(f"it was stored as {release}")
    assert why in said, said
    assert _is_readable(said), said
    assert memory[0] <= most, f"its reader took {memory[0]} MB"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < 100, f"the site took {grown} MB more"
    assert not _left_over(), _left_over()
    assert not Release.objects.filter(project=project).exists()
    return f"{len(data)} bytes, {memory[0]} MB: {said}"


def _is_readable(said: str) -> bool:
    """Whether a refusal can be read: one line, not long, with something to do."""
    return said.isprintable() and len(said) < 700 and said.count(".") >= 2


def _header(kind: bytes, size: int, name: bytes = b"x") -> bytes:
    """A header of a tar that says whatever size."""
    info = tarfile.TarInfo(name.decode())
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def _zeros_behind(head: bytes, size: int) -> bytes:
    """``head`` and many zeros, compressed: zstd makes a few KB of a GiB."""
    made = zstandard.ZstdCompressor(level=19).compressobj()
    pieces = [made.compress(head)]
    for _piece in range(size // _MB):
        pieces.append(made.compress(bytes(_MB)))
    return b"".join([*pieces, made.flush()])


# --- what is announced ----------------------------------------------------------------------------


@attack("package", "a long name of GNU of 1 GiB in a file of a few KB", short=False)
def _long_name(folder: Path) -> str:
    return _refused(folder, "a.tar.zst", _zeros_behind(_header(b"L", 1 << 30), 1 << 30), "longer than 4096 bytes")


@attack("package", "a long link of GNU, and a PAX header, of 1 GiB")
def _long_header(folder: Path) -> str:
    said = _refused(folder, "a.tar.zst", _zeros_behind(_header(b"K", 1 << 30), 64 * _MB), "longer than 4096 bytes")
    for kind in (b"x", b"g", b"X"):
        data = _zeros_behind(_header(kind, 1 << 30), 64 * _MB)
        said = _refused(folder, "a.tar.zst", data, "extended header is larger than 1024 KB")
    return said


@attack("package", "an endless row of PAX headers that come to no entry")
def _endless_headers(folder: Path) -> str:
    record = b"11 size=12\n"
    block = _header(b"x", len(record)) + record.ljust(512, b"\0")
    with override_settings(DEPLOYER_RELEASE_MAX_FILES=1000):
        return _refused(folder, "a.tar.gz", gzip.compress(block * 20_000, 1), "more than 1000 files")


@attack("package", "a zip of two million entries in its list")
def _many_entries(folder: Path) -> str:
    row = b"PK\x01\x02" + bytes(42)
    count = 2_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, count * len(row), 0, 0)
    return _refused(folder, "a.zip", row * count + end, "more than 300000 files")


@attack("package", "a jar with a list of contents of half a million entries")
def _many_entries_in_a_jar(folder: Path) -> str:
    row = b"PK\x01\x02" + bytes(42)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 500_000 * len(row), 0, 0)
    return _refused(folder, "a.jar", row * 500_000 + end, "more than 300000 files")


@attack("package", "a sparse file of petabytes, and one of a million pieces")
def _sparse(folder: Path) -> str:
    header = bytearray(_header(b"S", 0))
    header[483:495] = b"\x80" + (1 << 50).to_bytes(11, "big")
    said = _refused(folder, "a.tar", _sealed(header) + bytes(1024), "or 10000 MB")
    pieces = bytearray(_header(b"S", 0))
    pieces[482] = 1
    block = struct.pack("<12s12s", b"00000000001\0", b"00000000001\0") * 21 + b"\1" + bytes(7)
    _refused(folder, "a.tar.gz", gzip.compress(_sealed(pieces) + block * 50_000, 1), "more than 100000 pieces")
    records = _records({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"})
    text = b"9999999\n".ljust(512, b"\0")
    listed = _pax(records) + _header(b"0", 2 * _MB) + text + b"1\n" * _MB
    _refused(folder, "a.tar.gz", gzip.compress(listed, 1), "more than 100000 pieces")
    return said


@attack("package", "sizes that are negative, not octal, or overridden by PAX with another one")
def _odd_sizes(folder: Path) -> str:
    said = ""
    for size in (b"\xff" * 12, b"-0000000001\0", b"1_000\0", b"\x80" + b"\xff" * 11, b"0x10\0"):
        header = bytearray(_header(b"0", 0))
        header[124:136] = size.ljust(12, b"\0")
        said = _refused(folder, "a.tar", _sealed(header) + bytes(10_240), "cannot be read")
    for text in ("-5", "1e9", str(1 << 70), "٣"):
        data = _pax(_records({"size": text})) + _header(b"0", 0) + bytes(10_240)
        _refused(folder, "a.tar", data, "cannot be read")
    data = _pax(_records({"size": str(1 << 55)})) + _header(b"0", 0) + bytes(10_240)
    _refused(folder, "a.tar", data, "or 10000 MB")
    return said


def _sealed(header: bytearray) -> bytes:
    """A changed header with the checksum that belongs to it."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _records(values: dict[str, str]) -> bytes:
    rows = b""
    for key, value in values.items():
        text = f" {key}={value}\n".encode()
        length = len(text) + len(str(len(text) + 2))
        rows += b"%d" % length + text
    return rows


def _pax(records: bytes) -> bytes:
    return _header(b"x", len(records)) + records + bytes(-len(records) % 512)


# --- what is unpacked -----------------------------------------------------------------------------


@attack("package", "bombs of gzip, bzip2, xz and zstd, one within another")
def _bombs(folder: Path) -> str:
    zeros = tar_of((entry("zeros"), bytes(64 * _MB)))
    makers: dict[str, Callable[[bytes], bytes]] = {
        ".tar.gz": lambda data: gzip.compress(data, 9),
        ".tar.bz2": bz2.compress,
        ".tar.xz": lambda data: lzma.compress(data, preset=1),
        ".tar.zst": zstandard.ZstdCompressor(level=19).compress,
    }
    said = ""
    with override_settings(DEPLOYER_RELEASE_MAX_MB=20):
        for kind, make in makers.items():
            said = _refused(folder, f"a{kind}", make(zeros), "or 20 MB")
        behind = gzip.compress(tar_of(entry("fine")) + bytes(64 * _MB))
        _refused(folder, "a.tar.gz", behind, "or 20 MB")
    nested = gzip.compress(gzip.compress(zeros))
    _refused(folder, "a.tar.gz", nested, "cannot be read")
    return said


@attack("package", "windows of xz and zstd that want more memory than there is")
def _windows(folder: Path) -> str:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3}]
    wide = bytearray(lzma.compress(packed(".tar"), filters=[{**filters[0], "dict_size": 1 << 20}]))
    at = 12 + 4  # behind the stream's header: the properties of the first block's filter
    wide[at] = 38  # a dictionary of 2 GiB
    size = (wide[12] + 1) * 4
    wide[12 + size - 4 : 12 + size] = struct.pack("<L", zlib.crc32(wide[12 : 12 + size - 4]))
    said = _refused(folder, "a.tar.xz", bytes(wide), "more than 128 MB to decompress")
    frame = struct.pack("<LBB", 0xFD2FB528, 0, 21 << 3) + struct.pack("<L", 1)[:3]  # a window of 2 GiB
    _refused(folder, "a.tar.zst", frame + bytes(100), "more than 128 MB to decompress")
    return said


@attack("package", "a zip whose entries overlap, so that each byte counts many times")
def _overlap(folder: Path) -> str:
    data = bytearray(zip_of(("one", "x" * 100), ("two", "x" * 100)))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[second + 42 : second + 46] = struct.pack("<L", 0)  # where the first one is
    return _refused(folder, "a.zip", bytes(data), "shares its bytes")


@attack("package", "a zip with wrong sizes and checksums, encrypted, or with entries behind its end")
def _odd_zips(folder: Path) -> str:
    good = zip_of(("one", "x" * 1000))
    at = good.index(b"PK\x01\x02")

    def changed(place: int, value: int) -> bytes:
        data = bytearray(good)
        data[at + place : at + place + 4] = struct.pack("<L", value)
        return bytes(data)

    _refused(folder, "a.zip", changed(16, 1), "cannot be read")  # the checksum
    _refused(folder, "a.zip", changed(24, 5), "cannot be read")  # the size: too small
    _refused(folder, "a.zip", changed(24, 5000), "cannot be read")  # too large
    _refused(folder, "a.zip", changed(24, 0xFFFFFFFE), "cannot be read", most=_GENEROUS)
    _refused(folder, "a.zip", changed(42, 10**9), "shares its bytes")
    with override_settings(DEPLOYER_RELEASE_MAX_MB=100):
        _refused(folder, "a.zip", changed(24, 0xFFFFFFFE), "or 100 MB")
    data = bytearray(good)
    data[6] |= 1
    data[at + 8] |= 1
    said = _refused(folder, "a.zip", bytes(data), "is encrypted")
    assert store_package(_project(folder), "a.zip", io.BytesIO(b"#!/bin/sh\n" + good)).file_count == 1
    return said


@attack("package", "archives cut off anywhere, and with rubbish in the middle")
def _cut(folder: Path) -> str:
    tried = 0
    for kind in (".tar", ".tar.gz", ".tar.xz", ".zip"):
        whole = packed(kind)
        end = len(tar_of()) if kind == ".tar" else 0
        for share in (1, 30, 60, 99):
            cut = (len(whole) - end) * share // 100
            _refused(folder, f"a{kind}", whole[:cut], "cannot be read")
            tried += 1
    plain = packed(".tar")
    _refused(folder, "a.tar", plain[:1024] + b"rubbish!" * 64 + plain[1536:], "cannot be read")
    return f"all of {tried + 1} were refused"


# --- names and links ------------------------------------------------------------------------------


@attack("package", "a chain of links, each within the release, that leads out of it")
def _chain(folder: Path) -> str:
    def link(name: str, to: str) -> tarfile.TarInfo:
        return entry(name, type=tarfile.SYMTYPE, linkname=to)

    tree = entry("d/e/file")
    said = _refused(folder, "a.tar", tar_of(tree, link("d/e/up", "../.."), link("m", "d/e/up/..")), "by way of other")
    _refused(folder, "a.tar", tar_of(link("m", "d/e/up/../etc"), tree, link("d/e/up", "../..")), "by way of other")
    _refused(
        folder,
        "a.tar",
        tar_of(tree, link("p", "d/e"), link("q", "p"), link("d/x", "../q/../../.."), link("z", "d/x/passwd")),
        "leads out",
    )
    _refused(
        folder, "a.zip", zip_of(("d/e/f", ""), (_zip_link("d/e/up"), "../.."), (_zip_link("m"), "d/e/up/../x")), "by"
    )
    hard = entry("hard", type=tarfile.LNKTYPE, linkname="m")
    _refused(folder, "a.tar", tar_of(tree, link("m", "d/e"), hard), "hard link")
    fine = tar_of(tree, link("one", "two"), link("two", "one"), link("d/e/home", "../.."), link("same", "d/e/home/d"))
    assert store_package(_project(folder), "a.tar", io.BytesIO(fine)).file_count == 1
    return said


def _zip_link(name: str) -> zipfile.ZipInfo:
    return zipped(name, stat.S_IFLNK | 0o777)


@attack("package", "links that take for ever to follow")
def _tangle(folder: Path) -> str:
    wide = "/".join(["d", ".."] * 600)
    links = [entry(f"l{n}", type=tarfile.SYMTYPE, linkname=f"{wide}/l{n + 1}") for n in range(300)]
    return _refused(folder, "a.tar", tar_of(entry("d/file"), *links), "over one another too often")


@attack("package", "names that are absolute, with .., NUL, line breaks, too long, or the same ones again")
def _names(folder: Path) -> str:
    long = "/".join(["n" * 200] * 21)
    for name, why in (
        ("/etc/cron.d/evil", "leads out"),
        ("a/../../evil", "leads out"),
        ("two\nlines", "control character"),
        ("\x1b]0;evil\x07", "control character"),
        ("n" * 256, "longer than 255 bytes"),
        (long, "longer than 4096 bytes"),
    ):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(entry(name))
        said = _refused(folder, "a.tar", data.getvalue(), why)
    nul = _pax(_records({"path": "a\0b"})) + _header(b"0", 0) + bytes(10_240)
    _refused(folder, "a.tar", nul, "control character")
    for twin in (entry("file"), entry("./file"), entry("file//"), entry("file", type=tarfile.DIRTYPE), entry("file/x")):
        _refused(folder, "a.tar", tar_of(entry("file"), twin), "“")
    _refused(folder, "a.tar", tar_of(entry("d/file"), entry("d")), "different kinds")
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        _refused(folder, "a.tar", tar_of(entry("device", type=kind)), "not a file, a folder or a link")
    _refused(folder, "a.tar", tar_of(entry("root", mode=0o6755)), "setuid")
    for name in ("..\\..\\evil", "\\evil"):
        info = zipfile.ZipInfo(name)
        info.create_system = 0
        _refused(folder, "a.zip", zip_of((info, "")), "leads out")
    return said


@attack("package", "names as options, in another encoding than UTF-8, and by Windows, on a real server")
def _names_on_a_server(folder: Path) -> str:
    data = io.BytesIO()
    windows = zipfile.ZipInfo("web\\index.html")
    windows.create_system = 0
    names = [
        "--checkpoint-action=exec=sh evil",
        "-rf",
        "$(touch evil)",
        "end/of/names",
        "`id`;'\"",
        "ü",
    ]
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT, encoding="gbk") as archive:
        for name in [*names, "目录"]:
            archive.addfile(entry(name))
    project = _project(folder)
    _refused(folder, "a.tar", data.getvalue(), "in which encoding")
    server = OpenSSHServer()
    try:
        group = make_group(make_server(server))
        for _again in range(2):
            release = store_package(project, "a.tar", io.BytesIO(data.getvalue()), encoding="gbk")
            deployment = make_deployment(project, group, release=release)
            carry_out(deployment.pk)
            deployment.refresh_from_db()
            assert deployment.status == "success", deployment.error_message
            live = folder / "place" / "current"
            found = {str(path.relative_to(live)) for path in live.rglob("*") if path.is_file()}
            assert found == {*names, "目录"}, found
            (live / "目录").write_text("changed by hand")
        assert not [*folder.rglob("evil")], "a name was carried out"
    finally:
        server.close()
    plain = store_package(project, "w.zip", io.BytesIO(zip_of((windows, "x"))))
    manifest = manifest_of(plain)
    assert manifest is not None
    assert set(manifest.entries) == {"web", "web/index.html"}
    return "all arrived under their names, and one that was changed was sent again"


# --- limits of the reader, what it leaves, and the room ------------------------------------------


@attack("package", "one that takes more memory or time than its reader may have", short=False)
def _limits(folder: Path) -> str:
    deep = io.BytesIO()
    with tarfile.open(fileobj=deep, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(60_000):
            archive.addfile(entry(f"{number}/" + "n" * 250))
    with override_settings(DEPLOYER_UNPACK_MEMORY_MB=64):
        said = _refused(folder, "a.tar.gz", gzip.compress(deep.getvalue(), 1), "DEPLOYER_UNPACK_MEMORY_MB")
    members = gzip.compress(b"") * 400_000
    with override_settings(DEPLOYER_UNPACK_SECONDS=1):
        _refused(folder, "a.tar.gz", members, "DEPLOYER_UNPACK_SECONDS")
    return said


@attack("package", "its reader is killed while it works")
def _killed_reader(folder: Path) -> str:
    project = _project(folder)
    zeros = gzip.compress(tar_of((entry("zeros"), bytes(200 * _MB))), 1)
    done = threading.Event()

    def kill() -> None:
        while not done.wait(0.002):
            for pid in _readers():
                os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        store_package(project, "a.tar.gz", io.BytesIO(zeros))
        raise AssertionError("it was stored")
    except UnsafeArchiveError as error:
        said = str(error)
    finally:
        done.set()
        thread.join()
    assert "killed by signal 9" in said
    assert not _left_over(), _left_over()
    return said


def _readers() -> list[int]:
    """The readers that this process has started."""
    found = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        try:
            for pid in (task / "children").read_text().split():
                if b"deployer.releases.reader" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
        except OSError:
            continue
    return found


_UPLOADER = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
from pathlib import Path
from django.conf import settings
settings.BUILDS_DIR = Path(sys.argv[1])
from deployer.releases.contents import Words, read
from deployer.releases.workfolders import WorkFolder
with WorkFolder("package") as folder, open(sys.argv[2], "rb") as file, (folder.path / "release.tar").open("wb") as tar:
    print(folder.path, flush=True)
    read(file, {"kind": ".tar.gz", "name": "a.tar.gz", "encoding": ""}, Words("", ""), "a.tar.gz", tar)
"""


@attack("package", "the site is killed while it takes a package", short=False)
def _killed_site(folder: Path) -> str:
    package, builds = folder / "a.tar.gz", folder / "builds"
    made = zlib.compressobj(1, wbits=31)
    with package.open("wb") as file:
        file.write(made.compress(_header(b"0", 4000 * _MB)))
        for _piece in range(4000):
            file.write(made.compress(bytes(_MB)))
        file.write(made.flush())
    site = subprocess.Popen(
        [sys.executable, "-c", _UPLOADER, str(builds), str(package)], stdout=subprocess.PIPE, cwd=settings.BASE_DIR
    )
    assert site.stdout is not None
    path = Path(site.stdout.readline().decode().strip())
    wait_until(lambda: (path / "release.tar").stat().st_size > 10 * _MB, "the reader to work")
    reader = Path(f"/proc/{site.pid}/task/{site.pid}/children").read_text().split()
    site.kill()
    site.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in reader), "the reader to end")
    with override_settings(BUILDS_DIR=builds):
        swept = workfolders.sweep_folders(lambda _claim: False)
    assert swept == [path.name], swept
    assert not [*builds.iterdir()]
    return "its reader ended with it, and its folder was swept"


@attack("package", "an upload that the disk, or the project's share of it, has no room for")
def _no_room(folder: Path) -> str:
    project = _project(folder)
    client = Client()
    client.force_login(make_user())
    address = reverse("releases", args=[project.pk])

    def answer(size: int) -> str:
        file = io.BytesIO(tar_of((entry("noise"), os.urandom(size))))
        file.name = "shop.tar"
        page = client.post(address, {"package": file, "note": "of the night"}).content.decode()
        assert 'value="of the night"' in page, "what was typed is lost"
        assert not Release.objects.filter(project=project).exists()
        assert not _left_over(), _left_over()
        return page

    with override_settings(DEPLOYER_KEEP_FREE_MB=10**9):
        for size in (1000, settings.FILE_UPLOAD_MAX_MEMORY_SIZE + 1):
            assert "DEPLOYER_KEEP_FREE_MB" in answer(size)
    with override_settings(DEPLOYER_PACKAGES_MAX_MB=1):
        assert "DEPLOYER_PACKAGES_MAX_MB" in answer(2_000_000)
    return "both are said beside the file, and what was typed stays"


@attack("package", "a hostile package through the page: what else was typed stays")
def _through_the_page(folder: Path) -> str:
    project = _project(folder)
    client = Client()
    client.force_login(make_user())
    file = io.BytesIO(_zeros_behind(_header(b"L", 1 << 30), 64 * _MB))
    file.name = "shop.tar.zst"
    page = client.post(
        reverse("releases", args=[project.pk]), {"package": file, "note": "of the night"}
    ).content.decode()
    assert "longer than 4096 bytes" in page
    assert 'value="of the night"' in page
    assert not _left_over(), _left_over()
    return "refused beside the file"


# --- what comes back from the store ---------------------------------------------------------------


@attack("package", "who writes to the bucket changes an archive or a manifest", short=False)
def _store(folder: Path) -> str:
    with s3_server() as url:
        wanted = storage(f"s3://{BUCKET}/shop?endpoint_url={url}&region_name=us-east-1")
        with override_settings(STORAGES=settings.STORAGES | {"default": wanted}):
            release = store_package(_project(folder), "a.tar", io.BytesIO(packed(".tar")))
            bucket = boto3.resource("s3", endpoint_url=url, region_name="us-east-1").Bucket(BUCKET)
            archive = next(row.key for row in bucket.objects.all() if row.key.endswith(".tar.zst"))
            manifest = next(row.key for row in bucket.objects.all() if row.key.endswith(".manifest.zst"))
            text = zstandard.ZstdDecompressor().decompressobj().decompress(bucket.Object(manifest).get()["Body"].read())
            hostile = text + b"f\t644\t1\t\tend/of/names/\t" + b"0" * 64 + b"\t0\t1\nf\t644\t1\t\t../../x\t\t0\t1\n"
            bucket.Object(manifest).put(Body=zstandard.ZstdCompressor().compress(hostile))
            _is_told(lambda: manifest_of(release))
            old = f"releases/{release.version}.manifest.zst"  # as it was stored before its name had a digest
            release.manifest.storage.save(old, ContentFile(zstandard.ZstdCompressor().compress(hostile)))
            release.manifest.name = old
            _is_told(lambda: manifest_of(release))
            bomb = zstandard.ZstdCompressor(level=19).compress(bytes(512 * _MB))
            bucket.Object(f"shop/{old}").put(Body=bomb)
            _is_told(lambda: manifest_of(release))
            whole = bucket.Object(archive).get()["Body"].read()
            for other in (whole[:-1] + bytes([whole[-1] ^ 1]), whole + bytes(50 * _MB)):
                bucket.Object(archive).put(Body=other)
                sent = Archive(release)
                try:
                    _is_told(lambda sent=sent: sent.whole(["zstd"]))  # type: ignore[misc]
                    _is_told(lambda sent=sent: sent.whole(["gzip"]))  # type: ignore[misc]
                finally:
                    sent.close()
    return "each was refused before anything of it went to a server"


def _is_told(act: Callable[[], Any]) -> None:
    try:
        act()
    except TransferError as error:
        said = str(error)
    else:
        raise AssertionError("what was changed in the store was taken")
    assert "not the one that was stored" in said, said


@attack("package", "parts of a local archive that was changed under its manifest")
def _local_store(folder: Path) -> str:
    release = store_package(_project(folder), "a.tar", io.BytesIO(packed(".tar")))
    path = Path(release.archive.path)
    manifest = manifest_of(release)
    assert manifest is not None
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    path.write_bytes(zstandard.ZstdCompressor().compress(tar.replace(b"hello", b"h4xxx")))
    archive = Archive(release)
    try:
        _is_told(lambda: archive.parts([manifest.entries["index.html"]], "zstd"))
    finally:
        archive.close()
    return "refused"


# --- lists of servers -----------------------------------------------------------------------------


@attack("settings", "an import whose ranges, patterns and nesting stand for more than it says")
def _imports(folder: Path) -> str:
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ranges = "web" + "[1:2000]" * (MAX_BYTES // 9)
    stars = "Host " + " ".join(f"h{n}" for n in range(1900)) + "\nHost " + "*a* " * (MAX_BYTES // 5) + "\n"
    options = "Host " + " ".join(f"h{n}" for n in range(1900)) + "\n" + "Port 22\n" * (MAX_BYTES // 9)
    for tried in (
        lambda: ansible.read(ranges, "a.ini"),
        lambda: ansible.read("web[1:99999999]", "a.ini"),
        lambda: ansible.read("a[1:2000][1:2000]", "a.ini"),
        lambda: ansible.read("[" * 5000, "a.yaml"),
        lambda: ansible.read("a: &a [x]\nb: [*a, *a]\n", "a.yaml"),
        lambda: openssh.read(stars),
    ):
        try:
            tried()
        except UnreadableListingError as error:
            said = str(error)
        else:
            raise AssertionError("it was taken")
        assert said.endswith("."), said
    assert len(openssh.read(options).servers) == 1900
    secret = folder / "secret"
    secret.write_text("Host hidden\n")
    listing = openssh.read(
        f'Include {secret}\nMatch exec "touch {folder}/ran"\nHost a\nProxyCommand touch {folder}/ran\n'
    )
    assert [server.name for server in listing.servers] == ["a"]
    assert listing.servers[0].problem
    assert not (folder / "ran").exists()
    seconds = time.process_time() - begun
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert seconds < 60, f"{seconds:.0f} s of computing"
    assert grown < 300, f"{grown} MB"
    return f"refused in {seconds:.1f} s of computing; nothing was included or run"
