"""Promises of packages: what was built elsewhere is checked, stored and deployed like a build; nothing harmful is."""

import bz2
import contextlib
import gzip
import io
import lzma
import random
import sqlite3
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.engine.routines import carry_out
from deployer.launching.again import request_to_retry
from deployer.launching.asked import LaunchRequest
from deployer.launching.choice import with_release
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, LogLine, Release
from deployer.releases.archives import manifest_of
from deployer.releases.contents import UnsafeArchiveError
from deployer.releases.packages import PackageError, store_package
from deployer.web.uploads import NamelessUploadHandler
from people.models import ApiToken
from projects.models import Project
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.programs import PATIENCE
from tests.parts.worker import MANAGE, process_environment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

#: What every package of `packed` holds: text, and whether it can be run.
FILES = {"index.html": ("hello", False), "bin/tool": ("#!/bin/sh\n", True), "deep/er/-rf ü": ("x" * 5000, False)}
SQUEEZE: dict[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": zstandard.ZstdCompressor().compress,
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "restart.sh").write_text("echo fine")
    return make_project(
        name="shop", git_url="", deploy_path=str(tmp_path / "shop"), deploy_script_path=str(tmp_path / "restart.sh")
    )


def entry(name: str, **values: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for field, value in values.items():
        setattr(member, field, value)
    return member


def tar_of(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A plain tar; the bytes of a file are zeros where none are given."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for each in members:
            member, data = each if isinstance(each, tuple) else (each, bytes(each.size))
            member.size = len(data) if member.isfile() else 0
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def zip_of(*members: tuple[str | zipfile.ZipInfo, str]) -> bytes:
    """The same bytes whenever it is called: names of tests are made of them, and must be alike in every process."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in members:
            member = zipped(name, 0o600) if isinstance(name, str) else name
            archive.writestr(member, text, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def zipped(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def packed(kind: str, **more: str) -> bytes:
    """A package of `FILES`, without entries for their folders, and a link."""
    files = FILES | {name: (text, False) for name, text in more.items()}
    if kind == ".zip":
        rows = [(zipped(name, stat.S_IFREG | (0o755 if runs else 0o644)), text) for name, (text, runs) in files.items()]
        return zip_of(*rows, (zipped("latest", stat.S_IFLNK | 0o777), "deep/er"))
    members = [
        (entry(f"./{name}", mode=0o775 if runs else 0o664, uid=1234), text.encode())
        for name, (text, runs) in files.items()
    ]
    link = entry("./latest", type=tarfile.SYMTYPE, linkname="deep/er")
    return SQUEEZE[kind](tar_of(*members, link))


def taken(project: Project, name: str, data: bytes, **values: Any) -> Release:
    return store_package(project, name, io.BytesIO(data), **values)


def contents(release: Release) -> dict[str, tuple[Any, ...]]:
    manifest = manifest_of(release)
    assert manifest is not None
    return {path: (each.kind, oct(each.mode), each.link) for path, each in manifest.entries.items()}


@pytest.mark.parametrize("kind", [*SQUEEZE, ".zip"])
def test_every_kind_of_archive_becomes_the_same_release(project, kind):
    release = taken(project, f"shop{kind}", packed(kind), note="2.4")
    assert contents(release) == {
        "index.html": ("f", "0o644", ""),
        "bin": ("d", "0o755", ""),
        "bin/tool": ("f", "0o755", ""),
        "deep": ("d", "0o755", ""),
        "deep/er": ("d", "0o755", ""),
        "deep/er/-rf ü": ("f", "0o644", ""),
        "latest": ("l", "0o0", "deep/er"),
    }
    assert (release.origin, release.state, release.commit_message, release.commit_hash) == (
        "uploaded",
        "built",
        "2.4",
        "",
    )
    assert (release.file_count, release.unpacked_size) == (3, 5000 + 5 + 10)


def test_a_package_is_deployed_and_the_next_one_is_sent_as_its_difference(project, sshd, queue_server, tmp_path):
    group = make_group(make_server(sshd))
    big = "".join(f"{number}" for number in range(30_000))
    for text in ("one", "two"):
        release = taken(project, "shop.zip", packed(".zip", version=text, big=big))
        deployment = make_deployment(project, group, release=release)
        assert carry_out(deployment.pk)
        deployment.refresh_from_db()
        assert (deployment.status, deployment.branch, deployment.commit_message) == ("success", "", "shop.zip")
        live = tmp_path / "shop" / "current"
        assert (live / "version").read_text() == text
        assert (live / "latest" / "-rf ü").read_text() == "x" * 5000
        assert (live / "bin" / "tool").stat().st_mode & 0o777 == 0o755
    assert LogLine.objects.filter(deployment=deployment, content__contains="as its difference from").exists()
    release.refresh_from_db()
    assert release.state == "good"


def test_a_jar_is_released_as_it_is(project):
    data = zip_of(("META-INF/MANIFEST.MF", "Main-Class: x"))
    assert contents(taken(project, "C:\\builds\\shop-2.4.jar", data)) == {"shop-2.4.jar": ("f", "0o644", "")}
    with pytest.raises(PackageError, match=r"shop-2\.4\.jar.*cannot be read.*incomplete"):
        taken(project, "shop-2.4.jar", data[:-30])


@pytest.mark.parametrize("note", ["built\0 by CI", "built\udcff by CI"])
def test_a_note_that_no_database_can_hold_does_not_lose_the_package(project, note):
    release = taken(project, "shop.jar", zip_of(("META-INF/MANIFEST.MF", "Main-Class: x")), note=note)
    release.refresh_from_db()
    assert release.commit_message in {"built by CI", "built? by CI"}


def test_the_same_package_is_stored_once(project):
    one = taken(project, "shop.tar", packed(".tar"))
    assert taken(project, "shop.tar", packed(".tar")) == one
    assert taken(project, "shop.tar", packed(".tar", more="x")) != one
    Release.objects.update(state=Release.State.BAD)
    assert taken(project, "shop.tar", packed(".tar")) != one


LINK_IN = entry("link", type=tarfile.SYMTYPE, linkname="sub")


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.tar", tar_of(entry("/etc/cron.d/evil")), "leads out"),
        ("a.tar", tar_of(entry("a/../../evil")), "leads out"),
        ("a.tar", tar_of(entry("link", type=tarfile.SYMTYPE, linkname="../../etc")), "leads out"),
        ("a.tar", tar_of(entry("hard", type=tarfile.LNKTYPE, linkname="/etc/passwd")), "leads out"),
        ("a.tar", tar_of(entry("hard", type=tarfile.LNKTYPE, linkname="nothing")), "hard link, but no file"),
        ("a.tar", tar_of(LINK_IN, entry("hard", type=tarfile.LNKTYPE, linkname="link")), "hard link, but no file"),
        ("a.tar", tar_of(LINK_IN, entry("link/file")), "not a folder"),
        ("a.tar", tar_of(entry("file"), entry("file/below")), "not a folder"),
        ("a.tar", tar_of(entry("file"), entry("./file")), "in it twice"),
        ("a.tar", tar_of(entry("file"), entry("file", type=tarfile.DIRTYPE)), "different kinds of entry"),
        ("a.tar", tar_of(entry("disk", type=tarfile.BLKTYPE)), "not a file, a folder or a link"),
        ("a.tar", tar_of(entry("root", mode=0o4755)), "setuid"),
        ("a.tar", tar_of(entry("two\nlines")), "control character"),
        ("a.zip", zip_of(("../evil", "")), "leads out"),
        ("a.zip", zip_of(("/evil", "")), "leads out"),
        ("a.zip", zip_of((zipped("link", stat.S_IFLNK | 0o777), "../../etc/passwd")), "leads out"),
        ("a.zip", zip_of((zipped("pipe", stat.S_IFIFO | 0o644), "")), "not a file, a folder or a link"),
        ("a.zip", zip_of((zipped("root", stat.S_IFREG | 0o4755), "")), "setuid"),
        ("a.zip", zip_of(("x", "y"))[:-10], "cannot be read"),
        ("a.zip", b"", "cannot be read"),
        ("a.tar.gz", packed(".tar.gz")[:-40], "cannot be read"),
        ("a.tar.gz", packed(".tar"), "cannot be read"),
        ("a.tar.zst", b"not at all", "cannot be read"),
        ("a.tar.xz", packed(".tar.xz")[:-8], "cannot be read"),
        ("a.exe", b"MZ", "not a package.*not end in any of .tar"),
        ("$(touch pwned)\n", b"", "not a package"),
    ],
)
def test_a_hostile_or_broken_package_is_refused_and_nothing_is_stored(project, settings, name, data, why):
    with pytest.raises(UnsafeArchiveError, match=why):
        taken(project, name, data)
    assert not Release.objects.exists()
    assert not list(settings.BUILDS_DIR.glob("package-*"))


def test_an_encrypted_zip_is_refused(project, tmp_path):
    data = bytearray(zip_of(("secret", "x")))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1  # the flag "encrypted"
    with pytest.raises(PackageError, match="encrypted"):
        taken(project, "a.zip", bytes(data))


@pytest.mark.parametrize("kind", [".tar.gz", ".zip"])
def test_bombs_are_given_up_at_the_limit(project, settings, kind):
    settings.DEPLOYER_RELEASE_MAX_MB = 5
    zeros = "\0" * 6_000_000
    data = zip_of(("zeros", zeros)) if kind == ".zip" else gzip.compress(tar_of((entry("zeros"), zeros.encode())))
    assert len(data) < 100_000
    with pytest.raises(UnsafeArchiveError, match="or 5 MB"):
        taken(project, f"bomb{kind}", data)
    settings.DEPLOYER_RELEASE_MAX_FILES = 10
    many = (
        zip_of(*((f"f{n}", "") for n in range(11)))
        if kind == ".zip"
        else gzip.compress(tar_of(*(entry(f"f{n}") for n in range(11))))
    )
    with pytest.raises(UnsafeArchiveError, match="more than 10 files"):
        taken(project, f"many{kind}", many)


def test_a_package_that_is_not_stored_any_more_cannot_be_retried_or_deployed(project, sshd, queue_server):
    release = taken(project, "shop.tar", packed(".tar"))
    group = make_group(make_server(sshd))
    deployment = make_deployment(project, group, release=release)
    deployment.targets.update(status="failed")
    Deployment.objects.update(finished_at=timezone.now())
    Release.objects.update(archive="")
    deployment = Deployment.objects.get()
    with pytest.raises(LaunchRefusedError, match="upload it again"):
        request_to_retry(deployment, created_by=None, trigger="cli")
    with pytest.raises(LaunchRefusedError, match="upload it again"):
        with_release(LaunchRequest(project, [group]), release.version)


def test_the_page_takes_a_package_and_leads_to_its_launch(project, queue_server, admin_client):
    group = make_group(make_server())
    page = reverse("releases", args=[project.pk])
    bad = SimpleUploadedFile("<b>.exe", b"MZ")
    answer = admin_client.post(page, {"package": bad, "note": "nightly <i>"})
    assert "&lt;b&gt;.exe” is not a package" in answer.content.decode()
    assert 'value="nightly &lt;i&gt;"' in answer.content.decode()
    good = SimpleUploadedFile("shop.zip", packed(".zip"))
    answer = admin_client.post(page, {"package": good, "note": "nightly"})
    release = Release.objects.get()
    assert (release.commit_message, str(release.created_by)) == ("nightly", "admin")
    assert answer.status_code == 302
    launch_page = admin_client.get(answer["location"]).content.decode()
    assert f'<option value="{release.version}" selected>' in launch_page
    assert "id_branch" not in launch_page
    sent = {"deployment_type": "full", "release": release.version, "server_groups": [group.pk], "confirm": "shop"}
    assert admin_client.post(reverse("launch", args=[project.pk]), sent).status_code == 302
    deployment = Deployment.objects.get()
    assert (deployment.release, deployment.branch) == (release, "")
    listed = admin_client.get(page).content.decode()
    assert release.version in listed
    assert "nightly" in listed
    again = admin_client.get(reverse("deployment_again", args=[deployment.pk]))
    assert f"release={release.version}" in again["location"]


def test_a_large_package_has_no_name_on_its_way_in(project, queue_server, admin_client, settings):
    handler = NamelessUploadHandler()
    before = {*settings.DATA_DIR.iterdir()}
    handler.new_file("package", "big.tar", "application/x-tar", 3, None)
    handler.receive_data_chunk(b"one", 0)
    assert {*settings.DATA_DIR.iterdir()} == before, "a killed process would leave it for ever"
    assert (handler.file_complete(3).read(), handler.file.size) == (b"one", 3)
    big = tar_of((entry("big"), random.Random(1).randbytes(settings.FILE_UPLOAD_MAX_MEMORY_SIZE + 1)))
    sent = {"package": SimpleUploadedFile("big.tar", big), "note": "big"}
    assert admin_client.post(reverse("releases", args=[project.pk]), sent).status_code == 302
    assert Release.objects.get().unpacked_size == settings.FILE_UPLOAD_MAX_MEMORY_SIZE + 1
    assert {*settings.DATA_DIR.iterdir()} - before <= {settings.DATA_DIR / name for name in ("storage", "builds")}


def test_the_list_says_where_each_release_is_live(
    project, sshd, queue_server, admin_client, django_assert_max_num_queries
):
    group = make_group(make_server(sshd, name="web-1"))
    for text in ("one", "two"):
        deployment = make_deployment(project, group, release=taken(project, "shop.tar", packed(".tar", version=text)))
        assert carry_out(deployment.pk)
    page = reverse("releases", args=[project.pk])
    with django_assert_max_num_queries(12):
        listed = " ".join(admin_client.get(page).content.decode().split())
    new, old = listed.split("<tbody>")[1].split("</tr>")[:2]
    assert ("web-1" in new, "previously on" in new) == (True, False)
    assert "previously on web-1" in old


def test_the_command_line_takes_a_package(project, sshd, queue_server, tmp_path):
    make_group(make_server(sshd), name="web")
    path = tmp_path / "shop.tar.gz"

    def deploy(file: Path) -> subprocess.CompletedProcess[str]:
        words = ["deploy", "shop", "--group", "web", "--package", str(file)]
        return subprocess.run(
            [*MANAGE, *words], env=process_environment(), capture_output=True, text=True, timeout=PATIENCE
        )

    missing = deploy(path)
    assert (missing.returncode, "cannot be read: No such file" in missing.stderr) == (2, True)
    path.write_bytes(packed(".tar.gz"))
    done = deploy(path)
    assert (done.returncode, done.stderr) == (0, "")
    deployment = Deployment.objects.get()
    assert f"shop.tar.gz is stored as release {deployment.release}" in done.stdout
    path.write_bytes(b"x")
    assert deploy(path).returncode == 2


def test_the_api_takes_and_lists_packages(project):
    token = ApiToken(name="ci", user=make_user("ci"))
    client = Client(headers={"authorization": f"Bearer {token.renew()}"})
    token.save()
    url = f"/api/v1/projects/{project.pk}/releases"
    sent = {"package": SimpleUploadedFile("shop.tar", packed(".tar")), "note": "2.4"}
    answer = client.post(url, sent)
    assert answer.status_code == 201, answer.content
    shown = answer.json()
    assert (shown["origin"], shown["created_by"], shown["is_stored"], shown["file_count"]) == (
        "uploaded",
        "ci",
        True,
        3,
    )
    assert client.get(url).json() == {"items": [shown], "count": 1, "next_offset": None}
    refused = client.post(url, {"package": SimpleUploadedFile("shop.tar", b"x")})
    assert (refused.status_code, refused.json()["field"]) == (422, "package")
    assert client.get("/api/v1/projects/999/releases").status_code == 404
    assert Client().post(url, sent).status_code == 401


@pytest.fixture
def database(tmp_path: Path) -> bytes:
    """The bytes of an SQLite database."""
    path = tmp_path / "made.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table shop(item)")
    return path.read_bytes()


def with_database(kind: str, data: bytes) -> bytes:
    """A package with a database, one that a package of its own brings, and a text that is called like one."""
    files = {"app/db.sqlite3": data, "node_modules/x/x.db": data, "app/words.db": b"text", "<b>.sqlite": data}
    if kind == ".zip":
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            for name, each in files.items():
                archive.writestr(zipped(name, 0o600), each, zipfile.ZIP_DEFLATED)
        return target.getvalue()
    return SQUEEZE[kind](tar_of(*((entry(name), each) for name, each in files.items())))


@pytest.mark.parametrize("kind", [".tar", ".tar.gz", ".tar.zst", ".zip"])
def test_a_database_in_a_package_is_refused_unless_it_is_shared_or_meant(project, database, kind):
    package = with_database(kind, database)
    with pytest.raises(PackageError, match="lost with the next release") as refused:
        taken(project, f"shop{kind}", package)
    assert "app/db.sqlite3, <b>.sqlite" in refused.value.why
    assert "shared_paths" in refused.value.remedy
    assert not Release.objects.exists()
    project.shared_paths = "app/db.sqlite3\n<b>.sqlite"
    assert taken(project, f"shop{kind}", package).file_count == 4
    project.shared_paths, project.keeps_database_files = "", True
    assert taken(project, f"shop{kind}", package).file_count == 4


def test_a_package_that_was_meant_to_bring_its_database_is_refused_once_it_is_not(project, database):
    package = with_database(".tar", database)
    project.keeps_database_files = True
    assert taken(project, "shop.tar", package) == taken(project, "shop.tar", package)
    project.keeps_database_files = False
    with pytest.raises(PackageError, match=r"app/db\.sqlite3"):
        taken(project, "shop.tar", package)


def test_page_api_and_command_say_which_databases_a_package_brings(project, database, admin_client, tmp_path):
    path = tmp_path / "shop.tar"
    path.write_bytes(with_database(".tar", database))
    sent = {"package": SimpleUploadedFile(path.name, path.read_bytes())}
    answer = admin_client.post(reverse("releases", args=[project.pk]), sent).content.decode()
    assert "lost with the next release: app/db.sqlite3, &lt;b&gt;.sqlite." in answer
    assert "<b>.sqlite" not in answer
    token = ApiToken(name="ci", user=make_user("ci"))
    client = Client(headers={"authorization": f"Bearer {token.renew()}"})
    token.save()
    sent = {"package": SimpleUploadedFile(path.name, path.read_bytes())}
    refused = client.post(f"/api/v1/projects/{project.pk}/releases", sent)
    assert (refused.status_code, refused.json()["field"]) == (422, "package")
    assert "app/db.sqlite3" in refused.json()["detail"]
    make_group(make_server(), name="web")
    with pytest.raises(CommandError, match=r"app/db\.sqlite3"):
        call_command("deploy", project.name, "--group", "web", "--package", str(path))
    assert not Release.objects.exists()
