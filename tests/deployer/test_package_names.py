"""Promises of the names in packages: they are those that were packed, or the package is refused; none is garbled."""

import io
import struct
import tarfile
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from deployer.models import Deployment, Release
from deployer.releases.archives import manifest_of
from deployer.releases.packages import PackageError, names_alike, store_package
from deployer.releases.reader.names import ENCODINGS
from people.models import ApiToken
from projects.models import Project
from tests.deployer.test_packages import entry, tar_of
from tests.factories import make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db(transaction=True)

FAT, UNIX, NTFS = 0, 3, 10
#: The two ways to write an accent, by their code points: an editor may change one into the other.
COMPOSED, DECOMPOSED = "caf\N{LATIN SMALL LETTER E WITH ACUTE}.txt", "cafe\N{COMBINING ACUTE ACCENT}.txt"


class Row(NamedTuple):
    """An entry of a zip, byte by byte as it stands there."""

    name: bytes
    system: int = UNIX
    flags: int = 0
    extra: bytes = b""
    data: bytes = b"x"
    mode: int = 0


def zip_of(*rows: Row) -> bytes:
    """A zip of stored entries; nothing of it is made by a library, which would choose the encoding itself."""
    files, listed = b"", b""
    for row in rows:
        common = struct.pack("<HHHHLLL", row.flags, 0, 0, 0x21, zlib.crc32(row.data), len(row.data), len(row.data))
        sizes = struct.pack("<HH", len(row.name), len(row.extra))
        listed += b"PK\1\2" + struct.pack("<BBH", 20, row.system, 20) + common + sizes
        listed += struct.pack("<HHHLL", 0, 0, 0, row.mode << 16, len(files)) + row.name + row.extra
        files += b"PK\3\4" + struct.pack("<H", 20) + common + sizes + row.name + row.extra + row.data
    end = struct.pack("<HHHHLLH", 0, 0, len(rows), len(rows), len(listed), len(files), 0)
    return files + listed + b"PK\5\6" + end


def unicode_path(name: str, raw: bytes) -> bytes:
    """Info-ZIP's extra field with a name in UTF-8."""
    field = struct.pack("<BL", 1, zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(field)) + field


def windows_explorer(codec: str) -> Callable[..., bytes]:
    """Windows' own packer: the encoding of the system, and no word about it."""
    return lambda *names: zip_of(*(Row(name.encode(codec), FAT) for name in names))


def macos_finder(*names: str) -> bytes:
    """Accents apart from their letters, UTF-8, and no word about it."""
    return zip_of(*(Row(unicodedata.normalize("NFD", name).encode(), UNIX, mode=0o100644) for name in names))


def info_zip(*names: str) -> bytes:
    """On Unix: the bytes of the system, and the same in UTF-8 in an extra field."""
    raws = [(name, name.encode("gbk")) for name in names]
    return zip_of(*(Row(raw, UNIX, extra=unicode_path(name, raw), mode=0o100644) for name, raw in raws))


def python(*names: str) -> bytes:
    """Python's, and Java's, Go's and .NET's: UTF-8, and said."""
    return zip_of(*(Row(name.encode(), UNIX, 0 if name.isascii() else 0x800, mode=0o100644) for name in names))


def seven_zip(*names: str) -> bytes:
    """7-Zip on Windows: UTF-8, and said."""
    return zip_of(*(Row(name.encode(), FAT, 0 if name.isascii() else 0x800) for name in names))


SYSTEMS = {"macOS Finder": macos_finder, "Info-ZIP": info_zip, "Python": python, "7-Zip": seven_zip}
NAMES = ["index.html", "目录/说明.txt", "静态/图片/标志.png", "目录/readme.md"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "restart.sh").write_text("echo fine")
    return make_project(
        name="shop", git_url="", deploy_path=str(tmp_path / "shop"), deploy_script_path=str(tmp_path / "restart.sh")
    )


def stored(project: Project, data: bytes, encoding: str = "", kind: str = ".zip") -> Release:
    return store_package(project, f"shop{kind}", io.BytesIO(data), encoding=encoding)


def files(release: Release) -> list[str]:
    manifest = manifest_of(release)
    assert manifest is not None
    return sorted(path for path, each in manifest.entries.items() if each.kind == "f")


def refusal(project: Project, data: bytes, encoding: str = "", kind: str = ".zip") -> str:
    with pytest.raises(PackageError) as caught:
        stored(project, data, encoding, kind)
    assert not project.releases.exists()
    return str(caught.value)


# --- zip ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
def test_names_are_those_that_were_packed_on_every_system_that_says_its_encoding(project, system):
    assert files(stored(project, SYSTEMS[system](*NAMES))) == sorted(NAMES)


def test_names_of_windows_are_refused_and_shown_in_each_encoding(project):
    said = refusal(project, windows_explorer("gbk")(*NAMES))
    assert "nothing says in which encoding its names are" in said
    assert "“目录/说明.txt” in GBK" in said
    for label in ("EUC-KR", "CP437"):
        assert f"in {label}" in said
    assert "in UTF-8, " not in said
    assert "--encoding" in said


@pytest.mark.parametrize(
    ("encoding", "codec", "name"),
    [
        ("gbk", "gbk", "目录/说明.txt"),
        ("gbk", "gb18030", "目录/㐀.txt"),
        ("shift-jis", "cp932", "表示/ソース.txt"),
        ("big5", "cp950", "功能/說明.txt"),
        ("euc-kr", "cp949", "안내/설명.txt"),
        ("cp437", "cp437", "Straße/façade.txt"),
    ],
)
def test_names_of_windows_are_read_in_the_encoding_that_was_chosen(project, encoding, codec, name):
    assert files(stored(project, windows_explorer(codec)(name), encoding)) == [name]


def test_a_name_that_is_utf8_by_accident_is_refused_where_windows_packed_it(project):
    assert "目录".encode("gbk").decode() == "Ŀ¼"
    said = refusal(project, windows_explorer("gbk")("目录/a"))
    assert "“Ŀ¼/a” in UTF-8" in said
    assert "“目录/a” in GBK" in said
    assert files(stored(project, windows_explorer("gbk")("目录/a"), "gbk")) == ["目录/a"]


def test_utf8_of_windows_that_no_other_encoding_would_be_is_taken_as_it_is(project):
    assert files(stored(project, windows_explorer("utf-8")("目录/说明.txt"))) == ["目录/说明.txt"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_encoding_that_was_chosen_changes_no_name_that_says_its_own(project, system):
    assert files(stored(project, SYSTEMS[system](*NAMES), "shift-jis")) == sorted(NAMES)


def test_one_name_that_is_not_utf8_makes_all_that_do_not_say_it_names_of_the_encoding_chosen(project):
    data = windows_explorer("gbk")("目录/a", "说明")
    assert files(stored(project, data, "gbk")) == sorted(["目录/a", "说明"])


def test_a_name_that_is_not_in_the_encoding_chosen_is_refused(project):
    said = refusal(project, windows_explorer("cp437")("façade.txt"), "utf-8")
    assert "façade.txt” in CP437" in said


def test_an_extra_field_of_another_name_is_not_believed(project):
    raw = "说明.txt".encode("gbk")
    wrong = Row(raw, UNIX, extra=unicode_path("other.txt", b"another name"))
    assert "nothing says in which encoding" in refusal(project, zip_of(wrong))
    assert files(stored(project, zip_of(wrong), "gbk")) == ["说明.txt"]


@pytest.mark.parametrize("extra", [b"\x75\x70", b"\x75\x70\5\0\1\0\0\0\0", b"\x75\x70\0\0"])
def test_a_damaged_extra_field_is_passed_over(project, extra):
    assert files(stored(project, zip_of(Row("说明".encode("gbk"), UNIX, extra=extra)), "gbk")) == ["说明"]


def test_an_extra_field_that_is_longer_than_it_can_be_is_refused(project):
    row = Row("说明".encode("gbk"), UNIX, extra=b"\x75\x70\xff\xff\1")
    assert "cannot be read" in refusal(project, zip_of(row), "gbk")


@pytest.mark.parametrize("system", [FAT, NTFS])
def test_a_backslash_of_windows_is_a_folder_and_half_a_letter_is_not(project, system):
    rows = [Row("表\\ソ.txt".encode("cp932"), system), Row(b"a\\b.txt", system)]
    assert b"\\" in "表".encode("cp932")
    assert files(stored(project, zip_of(*rows), "shift-jis")) == ["a/b.txt", "表/ソ.txt"]


def test_a_flag_that_lies_makes_no_name(project):
    assert "cannot be read" in refusal(project, zip_of(Row("说明".encode("gbk"), UNIX, 0x800)))


@pytest.mark.parametrize("name", ["../说明", "/说明", "a/../../说明"])
def test_a_name_that_leads_out_does_so_in_every_encoding(project, name):
    assert "leads out of it" in refusal(project, windows_explorer("gbk")(name), "gbk")


def test_where_a_link_leads_is_in_the_same_encoding(project):
    link = Row("链接".encode("gbk"), UNIX, data="目录/说明".encode("gbk"), mode=0o120777)
    manifest = manifest_of(stored(project, zip_of(link), "gbk"))
    assert manifest is not None
    assert manifest.entries["链接"].link == "目录/说明"
    out = Row("链接".encode("gbk"), UNIX, data="../目录".encode("gbk"), mode=0o120777)
    with pytest.raises(PackageError, match="leads out of it"):
        stored(project, zip_of(out), "gbk")


# --- tar ---------------------------------------------------------------------------------------------


def old_tar(form: int, *names: str, codec: str = "gbk") -> bytes:
    """A tar with names in an encoding of its system."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form, encoding=codec) as archive:
        for name in names:
            archive.addfile(entry(name, size=1), io.BytesIO(b"x"))
    return target.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_names_of_a_tar_that_are_not_utf8_are_refused_or_read_as_chosen(project, form):
    data = old_tar(form, "目录/说明.txt", "目录/a")
    assert "“目录/说明.txt” in GBK" in refusal(project, data, kind=".tar")
    assert files(stored(project, data, "gbk", ".tar")) == ["目录/a", "目录/说明.txt"]


def test_a_long_name_of_gnu_is_read_as_chosen(project):
    name = "目录/" * 30 + "说明.txt"
    assert files(stored(project, old_tar(tarfile.GNU_FORMAT, name), "gbk", ".tar")) == [name]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("encoding", ["", "gbk"])
def test_names_of_a_tar_in_utf8_stay_as_they_are(project, form, encoding):
    data = old_tar(form, "目录/说明.txt", codec="utf-8")
    assert files(stored(project, data, encoding, ".tar")) == ["目录/说明.txt"]


def test_a_name_of_pax_is_utf8_even_where_it_could_be_another(project):
    data = old_tar(tarfile.PAX_FORMAT, "é.txt", codec="utf-8")
    assert files(stored(project, data, "gbk", ".tar")) == ["é.txt"]


def test_a_hard_link_of_a_tar_finds_its_file_in_the_same_encoding(project):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT, encoding="gbk") as archive:
        archive.addfile(entry("说明", size=1), io.BytesIO(b"x"))
        archive.addfile(entry("同一", type=tarfile.LNKTYPE, linkname="说明"))
    assert files(stored(project, target.getvalue(), "gbk", ".tar")) == sorted(["说明", "同一"])


# --- names that are one name elsewhere ---------------------------------------------------------------


def test_names_that_a_server_may_not_hold_beside_one_another_are_said(project):
    plain = tar_of(entry("a/b", size=1), entry("c", size=1))
    assert names_alike(stored(project, plain, kind=".tar")) == ""
    cases = tar_of(entry("Readme", size=1), entry("README", size=1))
    assert "“Readme” and “README” differ only" in names_alike(stored(project, cases, kind=".tar"))
    forms = tar_of(entry(COMPOSED, size=1), entry(DECOMPOSED, size=1), entry("a/x", size=1), entry("A/y", size=1))
    assert names_alike(stored(project, forms, kind=".tar")).startswith("2 names are")


def test_they_are_said_on_the_page(project):
    client = Client()
    client.force_login(make_user())
    package = SimpleUploadedFile("shop.tar", tar_of(entry("Readme", size=1), entry("README", size=1)))
    page = client.post(reverse("releases", args=[project.pk]), {"package": package}, follow=True).content.decode()
    assert "a server may not hold both" in page


# --- where it is chosen ------------------------------------------------------------------------------


def test_the_encoding_is_chosen_on_the_page(project):
    client = Client()
    client.force_login(make_user())
    url = reverse("releases", args=[project.pk])
    data = windows_explorer("gbk")("目录/说明.txt")
    page = client.post(url, {"package": SimpleUploadedFile("shop.zip", data)}).content.decode()
    assert "“目录/说明.txt” in GBK" in page
    for key, encoding in ENCODINGS.items():
        assert f'<option value="{key}">{encoding.label}</option>' in page
    client.post(url, {"package": SimpleUploadedFile("shop.zip", data), "encoding": "gbk"})
    assert files(project.releases.get()) == ["目录/说明.txt"]
    page = client.post(url, {"package": SimpleUploadedFile("shop.zip", data), "encoding": "x"}).content.decode()
    assert "x is not one of the available choices" in page


def test_the_encoding_is_a_field_of_the_api(project):
    token = ApiToken(name="ci", user=make_user())
    client = Client(headers={"authorization": f"Bearer {token.renew()}"})
    token.save()
    url = f"/api/v1/projects/{project.pk}/releases"
    data = windows_explorer("gbk")("说明", "README", "Readme")
    answer = client.post(url, {"package": SimpleUploadedFile("a.zip", data)})
    assert (answer.status_code, answer.json()["field"]) == (422, "package")
    assert "“说明” in GBK" in answer.json()["detail"]
    answer = client.post(url, {"package": SimpleUploadedFile("a.zip", data), "encoding": "x"})
    assert (answer.status_code, answer.json()["field"]) == (422, "encoding")
    answer = client.post(url, {"package": SimpleUploadedFile("a.zip", data), "encoding": "gbk"})
    assert answer.status_code == 201
    assert "“README” and “Readme” differ only" in answer.json()["warnings"][0]
    assert files(project.releases.get()) == ["README", "Readme", "说明"]


def test_the_encoding_is_an_option_of_the_command(project, tmp_path, capsys):
    make_group(make_server(name="web-1"), name="web")
    package = tmp_path / "shop.zip"
    package.write_bytes(windows_explorer("gbk")("说明"))
    with pytest.raises((CommandError, SystemExit)):
        call_command("deploy", "shop", "--group", "web", "--package", str(package))
    with pytest.raises((CommandError, SystemExit)):
        call_command("deploy", "shop", "--group", "web", "--encoding", "gbk")
    assert not Deployment.objects.exists()
    call_command("deploy", "shop", "--group", "web", "--package", str(package), "--encoding", "gbk")
    assert files(project.releases.get()) == ["说明"]
