"""Promises of the transfer: a release arrives whole or not at all, and as little of it as will do is sent."""

import gzip
import hashlib
import io
import os
import random
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from deployer.engine.routines import carry_out
from deployer.models import Deployment, LogLine, Release
from deployer.releases.archives import Archive
from deployer.releases.packages import store_package
from projects.commands import release as release_commands
from projects.commands.manifest import Entry, Manifest, difference
from servers.errors import TransferError
from tests.deployer.test_packages import entry, packed, tar_of
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.marks import rarely
from tests.parts.proxy import Proxy
from tests.parts.sshd import OpenSSHServer, as_login_shell

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

#: Names that mean something to a shell, to find, tar or sha256sum, or to a sort.
HOSTILE = {
    "-rf": "1",
    "a b": "2",
    "$(touch pwned)": "3",
    "back\\slash": "4",
    "quote'\"": "5",
    "ünï/日本": "6",
    "a/b": "7",
    "a.b": "8",
    "end/of/names": "9",
    " lead": "10",
    "*": "11",
    "EOF": "12",
}

#: Debian has the first two. The others are tried where they are installed.
LOGIN_SHELLS = ["dash", "bash", *filter(None, map(shutil.which, ("tcsh", "csh", "fish", "zsh", "ksh", "mksh", "yash")))]


@pytest.fixture
def place(sshd, tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (tmp_path / "restart.sh").write_text("echo fine")
    return folder


@pytest.fixture
def project(git_repo, place):
    return make_project(
        git_url=git_repo.url, deploy_path=str(place), deploy_script_path=str(place.parent / "restart.sh")
    )


def deployed(project, group, **values) -> Deployment:
    deployment = make_deployment(project, group, **values)
    assert carry_out(deployment.pk)
    deployment = Deployment.objects.get(pk=deployment.pk)
    assert deployment.status == "success", deployment.error_message
    return deployment


def released(project, group) -> Release:
    release = deployed(project, group).release
    assert release is not None
    return release


def said(deployment: Deployment, text: str) -> list[str]:
    return [
        line for line in LogLine.objects.values_list("content", flat=True).filter(deployment=deployment) if text in line
    ]


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What is in ``folder``: modes, link targets and bytes."""
    return {
        str(path.relative_to(folder)): (
            "link" if path.is_symlink() else oct(path.stat().st_mode & 0o777),
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "",
        )
        for path in folder.rglob("*")
    }


def live(place: Path) -> Path:
    return (place / "current").resolve(strict=True)


def test_the_second_release_is_sent_as_its_difference_and_is_the_same_as_a_full_one(sshd, git_repo, project, place):
    noise = random.Random(1)
    files = {f"lib/{number}.bin": noise.randbytes(20_000) for number in range(50)}
    git_repo.commit(
        HOSTILE | files | {"gone/deep/er": "x", "was-a-file": "x", "was-a-folder/x": "x", "tool": "#!/bin/sh"}
    )
    group = make_group(make_server(sshd))
    deployed(project, group)
    git_repo.git("rm", "-rq", "gone", "was-a-file", "was-a-folder", "--", "-rf")
    (git_repo.path / "link").symlink_to("lib/1.bin")
    (git_repo.path / "tool").chmod(0o755)
    git_repo.commit({"was-a-file/now": "y", "was-a-folder": "y", "lib/3.bin": b"new", "lib/new.bin": b"new"})
    second = deployed(project, group)
    assert said(second, "as its difference from")
    elsewhere = make_project(
        git_url=git_repo.url, deploy_path=f"{place}-2", deploy_script_path=project.deploy_script_path
    )
    deployed(elsewhere, group)
    assert tree(live(place)) == tree(live(Path(f"{place}-2")))
    assert not list(place.glob("releases/.*"))


def test_what_was_changed_on_the_server_is_found_and_put_right(sshd, git_repo, project, place):
    git_repo.commit({f"lib/{number}": f"{number}" * 1000 for number in range(50)})
    group = make_group(make_server(sshd))
    first = released(project, group)
    release = live(place)
    (release / "lib/7").write_text("8" * 1000)
    (release / "lib/9").unlink()
    (release / "lib/10").chmod(0o600)
    (release / "cache").mkdir()
    (release / "cache/x\ny").write_text("an application wrote this")
    git_repo.commit({"lib/1": "new"})
    second = deployed(project, group)
    assert said(second, "was changed on the server")
    assert said(second, f"as its difference from {first.version}")
    assert (live(place) / "lib/7").read_text() == "7" * 1000
    assert (live(place) / "lib/9").exists()
    assert (live(place) / "lib/10").stat().st_mode & 0o777 == 0o644
    assert not (live(place) / "cache").exists()
    assert (release / "lib/7").read_text() == "8" * 1000, "the live release was touched"


def test_what_was_installed_into_a_release_stays_in_it(sshd, git_repo, project, place):
    group = make_group(make_server(sshd))
    incompressible = os.urandom(300_000)
    git_repo.commit({"blob": incompressible, "web/index.js": "1"})
    released(project, group)
    for folder in (live(place) / "node_modules", live(place) / "web" / "node_modules"):
        for number in range(3000):
            (folder / f"{number:0100}").mkdir(parents=True)
    git_repo.commit({"web/index.js": "2"})
    deployment = deployed(project, group)
    assert deployment.status == "success", deployment.error_message
    assert said(deployment, "as its difference from"), "what lies beside it makes no release too large to be compared"
    assert sorted(path.name for path in live(place).iterdir()) == ["blob", "index.html", "web"]
    assert [path.name for path in (live(place) / "web").iterdir()] == ["index.js"]


def test_the_new_release_shares_no_file_with_the_one_it_was_made_of(sshd, git_repo, project, place):
    group = make_group(make_server(sshd))
    git_repo.commit({"a": "a" * 10_000, "b": "b" * 10_000})
    deployed(project, group)
    first = live(place)
    git_repo.commit({"c": "c"})
    deployed(project, group)
    with (live(place) / "a").open("a") as file:
        file.write("written by the application")
    assert (first / "a").read_text() == "a" * 10_000


def take_away(sshd: OpenSSHServer, lacking: str) -> Path:
    """Leave the logins of ``sshd`` without one program; gives the folder that holds the others."""
    tools = sshd.home / "tools"
    tools.mkdir()
    for folder in ("/bin", "/usr/bin"):
        for program in Path(folder).iterdir():
            if program.name != lacking and not (tools / program.name).is_symlink():
                (tools / program.name).symlink_to(program)
    (sshd.home / ".bashrc").write_text(f"export PATH={tools}\n")
    return tools


@pytest.mark.parametrize("lacking", ["zstd", "openssl", "find"])
def test_a_server_without_one_of_the_tools_gets_the_same_tree(make_sshd, git_repo, project, place, lacking):
    sshd = make_sshd()
    tools = take_away(sshd, lacking)
    if lacking == "find":  # one that has no -printf, as on small systems
        (tools / "find").write_text('#!/bin/sh\ncase "$*" in *-printf*) exit 1;; esac\nexec /usr/bin/find "$@"\n')
        (tools / "find").chmod(0o755)
    group = make_group(make_server(sshd))
    git_repo.commit(HOSTILE | {"lib": "x" * 5000})
    deployed(project, group)
    git_repo.commit({"more": "y"})
    second = deployed(project, group)
    assert bool(said(second, "as its difference from")) == (lacking != "find")
    assert {name: (live(place) / name).read_text() for name in HOSTILE} == HOSTILE
    assert (live(place) / "more").read_text() == "y"


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_it_makes_no_difference_which_shell_the_login_has(make_sshd, git_repo, project, place, shell):
    sshd = make_sshd(as_login_shell(shell))
    take_away(sshd, "openssl")  # what stands in for it is more to quote
    group = make_group(make_server(sshd))
    project.shared_paths = "it's ours/, .env"
    project.save()
    git_repo.commit(HOSTILE | {".env": "A=1", "big": random.Random(7).randbytes(100_000)})
    deployed(project, group)
    git_repo.commit({"more": "y"})
    second = deployed(project, group)
    assert said(second, "as its difference from")
    assert not said(second, "was changed on the server")
    assert {name: (live(place) / name).read_text() for name in HOSTILE} == HOSTILE
    assert (live(place) / ".env").readlink() == place / "shared/.env"
    assert (live(place) / "it's ours").readlink() == place / "shared/it's ours"


def test_an_upload_that_is_cut_at_every_tenth_never_leaves_half_a_release(sshd, git_repo, project, place):
    git_repo.commit({"big": random.Random(2).randbytes(2_000_000)})
    proxy = Proxy(sshd.port)
    try:
        group = make_group(make_server(sshd, port=proxy.port))
        deployed(project, group)
        whole = tree(live(place))
        for tenth in range(1, 10):
            git_repo.commit({"big": random.Random(tenth * 100).randbytes(2_000_000)})
            proxy.strike_next("reset", 10_000 + tenth * 200_000)
            deployment = deployed(project, group)
            assert said(deployment, "Uploading again")
            names = {path.name for path in (place / "releases").iterdir()}
            assert names <= set(Release.objects.values_list("version", flat=True))
            assert tree(live(place)).keys() == whole.keys()
            assert (live(place) / "big").read_bytes() == random.Random(tenth * 100).randbytes(2_000_000)
    finally:
        proxy.close()


def test_a_server_that_cannot_take_it_keeps_what_it_had(make_sshd, git_repo, project, place):
    sshd = make_sshd()
    group = make_group(make_server(sshd))
    first = released(project, group).version
    (sshd.home / ".bashrc").write_text("trap '' XFSZ\nulimit -f 1000\n")  # no file larger than 512 kB: a small disk
    git_repo.commit({"big": random.Random(3).randbytes(3_000_000)})
    deployment = make_deployment(project, group)
    carry_out(deployment.pk)
    target = deployment.targets.get()
    assert target.status == "failed"
    assert "could not be unpacked" in target.error
    assert "tar: ./big: Wrote only " in target.error
    assert live(place).name == first
    assert [path.name for path in (place / "releases").iterdir()] == [first]


def test_a_far_server_gets_a_large_release_in_stripes(sshd, git_repo, project, place):
    content = random.Random(4).randbytes(10_500_000)
    git_repo.commit({"big": content})
    proxy = Proxy(sshd.port)
    proxy.delay = 0.02
    try:
        deployed(project, make_group(make_server(sshd, port=proxy.port)))
    finally:
        proxy.close()
    assert (live(place) / "big").read_bytes() == content
    assert not list(place.glob("releases/.*"))


@pytest.mark.parametrize("sessions", [3, rarely(1)])
def test_a_far_server_gets_a_large_release_in_as_many_streams_as_it_opens(
    make_sshd, git_repo, project, place, sessions
):
    sshd = make_sshd(f"MaxSessions {sessions}")
    proxy = Proxy(sshd.port)
    proxy.delay = 0.02
    try:
        group = make_group(make_server(sshd, port=proxy.port))
        for seed in (4, 5):
            content = random.Random(seed).randbytes(10_500_000)
            git_repo.commit({"big": content})
            deployment = deployed(project, group)
            assert (live(place) / "big").read_bytes() == content
            assert not [*said(deployment, "lost"), *said(deployment, "again"), *said(deployment, "session")]
    finally:
        proxy.close()
    assert not list(place.glob("releases/.*"))


def test_a_slow_upload_says_how_far_it_is_in_the_log_and_on_the_page(
    sshd, git_repo, project, place, monkeypatch, admin_client
):
    monkeypatch.setattr("deployer.engine.staging.PROGRESS_EVERY", 0.0)
    git_repo.commit({"big": random.Random(6).randbytes(3_000_000)})
    deployment = deployed(project, make_group(make_server(sshd)))
    lines = said(deployment, "Uploading: ")
    assert "Uploading: 3.0 of 3.0 MB (100 %), " in lines[-1]
    assert lines[-1].endswith(" MB/s")
    deployment.targets.update(status="staging")
    page = admin_client.get(deployment.get_absolute_url()).content.decode()
    assert "3.0 of 3.0 MB (100 %), " in page.split('role="log"')[0]


def test_a_stored_archive_that_was_damaged_is_never_unpacked_as_a_release(sshd, git_repo, project, place):
    group = make_group(make_server(sshd))
    git_repo.commit({"big": random.Random(5).randbytes(300_000)})
    release = released(project, group)
    path = Path(release.archive.path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    other = make_project(git_url=git_repo.url, deploy_path=f"{place}-2", deploy_script_path=project.deploy_script_path)
    deployment = make_deployment(other, group, release=release, branch=release.commit_hash)
    carry_out(deployment.pk)
    target = deployment.targets.get()
    assert target.status == "failed"
    assert "could not be unpacked" in target.error
    assert list(Path(f"{place}-2/releases").iterdir()) == []


def test_another_archive_in_the_place_of_the_stored_one_gets_no_name_on_a_server(sshd, git_repo, project, place):
    group = make_group(make_server(sshd))
    git_repo.commit({"VERSION": "one"})
    one = released(project, group)
    git_repo.commit({"VERSION": "two"})
    two = released(project, group)
    Path(one.archive.path).write_bytes(Path(two.archive.path).read_bytes())
    Release.objects.filter(pk=one.pk).update(size=two.size)
    other = make_project(git_url=git_repo.url, deploy_path=f"{place}-2", deploy_script_path=project.deploy_script_path)
    deployment = make_deployment(other, group, release=one, branch=one.commit_hash)
    carry_out(deployment.pk)
    target = deployment.targets.get()
    assert target.status == "failed"
    assert "is not the one that was stored" in target.error
    assert list(Path(f"{place}-2/releases").iterdir()) == []


def test_an_archive_is_read_once_to_be_proved_and_not_where_it_was_just_stored(project, monkeypatch):
    read: list[str] = []
    digest = hashlib.file_digest

    def noted(file: Any, name: str) -> Any:
        read.append(file.name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    stored = store_package(project, "shop.tar", io.BytesIO(packed(".tar")))
    for release, times in ((stored, 0), (Release.objects.get(), 1)):
        archive = Archive(release)
        for _server in range(3):
            archive.check(archive.whole(["zstd"]))
        archive.close()
        assert len(read) == times


@pytest.mark.parametrize("just_stored", [True, False])
def test_an_archive_that_is_written_to_while_it_is_sent_is_refused(project, just_stored):
    stored = store_package(project, "shop.tar", io.BytesIO(packed(".tar")))
    archive = Archive(stored if just_stored else Release.objects.get())
    sent = archive.whole(["zstd"])
    archive.check(sent)
    path, was = Path(stored.archive.path), Path(stored.archive.path).stat()
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    path.write_bytes(data)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(TransferError, match="is not the one that was stored"):
        archive.check(sent)
    archive.close()


def test_what_came_in_half_or_packed_wrongly_leaves_nothing(tmp_path):
    (tmp_path / "releases").mkdir()
    whole = gzip.compress(tar_of((entry("a"), random.Random(7).randbytes(100_000))))
    text = release_commands.pour(str(tmp_path), "v1", "1-a", "gzip")
    for data in (whole[: len(whole) // 2], whole[:-8] + bytes(8), b"", b"no archive"):
        done = subprocess.run(["sh", "-c", text], input=data, capture_output=True)
        assert done.returncode == 1, data[:20]
        assert not list((tmp_path / "releases").iterdir())
    padded = gzip.compress(tar_of((entry("a"), b"a")) + bytes(3_000_000))  # tar reads no more than it needs
    for data in (padded, whole):
        assert subprocess.run(["sh", "-c", text], input=data).returncode == 0
    assert [path.name for path in (tmp_path / "releases").iterdir()] == [".v1.1-a.unpacking"]


def test_current_leads_somewhere_whenever_a_switch_is_killed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    subprocess.run(["sh", "-c", release_commands.switch(str(tmp_path), "one")], check=True)
    chance = random.Random(6)
    for number in range(60):
        script = release_commands.switch(str(tmp_path), ("one", "two")[number % 2])
        with subprocess.Popen(["sh", "-c", script]) as switching:
            time.sleep(chance.random() * 0.004)
            switching.kill()
        assert (tmp_path / "current").resolve(strict=True).name in {"one", "two"}
    subprocess.run(["sh", "-c", release_commands.prepare(str(tmp_path))], check=True, stdout=subprocess.DEVNULL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "releases", "shared"]


def test_the_manifest_of_a_release_is_what_its_archive_holds(sshd, git_repo, project, place):
    git_repo.commit(HOSTILE)
    release = released(project, make_group(make_server(sshd)))
    archive = Archive(release)
    manifest = archive.manifest
    archive.close()
    assert manifest is not None
    assert {entry.path for entry in manifest.files} == {*HOSTILE, "index.html"}
    assert (release.file_count, release.unpacked_size) == (len(HOSTILE) + 1, manifest.size)
    assert Manifest.from_bytes(manifest.to_bytes()).entries == manifest.entries


def test_a_difference_deletes_children_before_parents_and_a_thing_that_became_another():
    have = Manifest([Entry("d", "a", 0o755), Entry("f", "a/b", 0o644, 1, sha256="1"), Entry("f", "c", 0o644, 1)])
    want = Manifest([Entry("f", "a", 0o644, 1, sha256="2"), Entry("f", "c", 0o600, 1)])
    change = difference(have, want)
    assert change.delete == ["a/b", "a"]
    assert [entry.path for entry in change.send] == ["a", "c"]


def test_shared_paths_are_kept_between_releases_with_owner_and_mode(sshd, git_repo, project, place):
    git_repo.commit({"uploads/readme": "from the first release", "config/app.env": "x", "big": "b" * 5000})
    project.shared_paths = "uploads/, config/app.env, var/log/"
    project.save()
    group = make_group(make_server(sshd))
    deployed(project, group)
    shared = place / "shared"
    (shared / "uploads/photo").write_text("of a user")
    (shared / "config/app.env").write_text("a secret")
    (shared / "config/app.env").chmod(0o600)
    git_repo.commit({"uploads/readme": "from the second release", "index.html": "second\n"})
    second = deployed(project, group)
    assert said(second, "as its difference from")
    assert not said(second, "was changed on the server")
    assert (live(place) / "uploads/photo").read_text() == "of a user"
    assert (live(place) / "uploads/readme").read_text() == "from the first release"
    assert (live(place) / "config/app.env").read_text() == "a secret"
    assert (shared / "config/app.env").stat().st_mode & 0o777 == 0o600
    (live(place) / "var/log/app.log").write_text("kept")
    assert (shared / "var/log/app.log").read_text() == "kept"
    assert (live(place) / "index.html").read_text() == "second\n"


def test_whoever_serves_a_release_can_read_it_whatever_the_umask_here_and_there(make_sshd, git_repo, tmp_path):
    """A worker and a login with the strictest of masks: what they make for others is open, what is theirs is not."""
    sshd = make_sshd()
    (sshd.home / ".bashrc").write_text("umask 077\n")
    tmp_path.chmod(0o755)
    (tmp_path / "restart.sh").write_text(f"umask >{tmp_path}/umask")
    project = make_project(
        git_url=git_repo.url,
        deploy_path=str(tmp_path / "deep/shop"),
        deploy_script_path=str(tmp_path / "restart.sh"),
        build_script="mkdir built && echo x >built/page && echo y >tool && chmod 700 tool",
        shared_paths="uploads/, var/log/",
    )
    group = make_group(make_server(sshd))
    before = os.umask(0o077)
    try:
        for _time in range(2):
            git_repo.commit({"a/b": secrets.token_hex(8), "big": random.Random(8).randbytes(20_000)})
            deployment = deployed(project, group)
    finally:
        os.umask(before)
    assert said(deployment, "as its difference from")
    assert not said(deployment, "was changed on the server")
    place = tmp_path / "deep/shop"
    modes = {path: oct(path.stat().st_mode & 0o777) for path in [place.parent, place, *place.rglob("*")]}
    closed = {path: mode for path, mode in modes.items() if mode not in {"0o755", "0o644"}}
    assert {(path.name, mode) for path, mode in closed.items()} == {("tool", "0o700")}  # as it was built
    assert (sshd.home / ".deployer").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "umask").read_text() == "0077\n"  # the script has the login's own


def test_a_shared_file_that_is_nowhere_is_named_and_nothing_is_switched(sshd, git_repo, project, place):
    group = make_group(make_server(sshd))
    first = deployed(project, group)
    project.shared_paths = "index.html, config/a b.env"
    project.save()
    git_repo.commit({"index.html": "second\n"})
    deployment = make_deployment(project, group)
    carry_out(deployment.pk)
    target = deployment.targets.get()
    assert target.status == "failed"
    assert f"{place}/shared/config/a b.env" in target.error
    assert f"config/a b.env is neither in {place}/shared nor in the release." in target.error
    assert first.release is not None
    assert live(place).name == first.release.version


def test_the_same_commit_and_settings_are_not_built_twice_unless_asked_to(sshd, git_repo, project):
    group = make_group(make_server(sshd))
    first = released(project, group)
    again = deployed(project, group)
    assert again.release == first
    assert said(again, "it is reused")
    anew = deployed(project, group, rebuild=True)
    assert anew.release != first
    project.build_script = "echo built > built"
    project.save()
    other_settings = released(project, group)
    assert other_settings not in {first, anew.release}
    project.variables.create(name="COLOUR", value="red", scope="build")
    other_variable = released(project, group)
    assert other_variable != other_settings
    Release.objects.filter(pk=other_variable.pk).update(state="bad")
    assert released(project, group) != other_variable
