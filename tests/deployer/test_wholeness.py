"""A release that is on a server already is what was built before it is made live, whoever has changed it."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from deployer.engine.routines import carry_out
from deployer.models import Deployment, LogLine, Release
from projects.commands import release as release_commands
from projects.commands import wholeness
from projects.commands.manifest import Damage, Entry, Manifest, damage
from projects.models import HealthCheck
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.marks import rarely
from tests.parts.proxy import Proxy

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

FILES = {f"lib/{number}.py": f"print({number})\n" * 50 for number in range(30)}
ODD = {"-rf": "1", "a b/c": "2", "quote'\"": "3", "$(touch pwned)": "4", "ünï/日本": "5", "end/of/names": "6"}


@pytest.fixture
def place(sshd, tmp_path: Path) -> Path:
    (tmp_path / "restart.sh").write_text("echo fine")
    return tmp_path / "shop"


@pytest.fixture
def project(git_repo, place, sshd):
    git_repo.commit({"first": "1"} | FILES | ODD)
    (git_repo.path / "link").symlink_to("lib/1.py")
    git_repo.commit({})
    return make_project(
        git_url=git_repo.url, deploy_path=str(place), deploy_script_path=str(place.parent / "restart.sh")
    )


@pytest.fixture
def group(sshd):
    return make_group(make_server(sshd, name="web-1"))


def ended(project, group, **values) -> Deployment:
    deployment = make_deployment(project, group, **values)
    assert carry_out(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


def deployed(project, group, **values) -> Deployment:
    deployment = ended(project, group, **values)
    assert deployment.status == "success", deployment.error_message
    return deployment


def again(project, group, release: Release) -> Deployment:
    return ended(project, group, release=release, branch=release.commit_hash)


def said(deployment: Deployment, text: str) -> list[str]:
    lines = LogLine.objects.filter(deployment=deployment).values_list("content", flat=True)
    return [line for line in lines if text in line]


def two_releases(project, group, git_repo) -> tuple[Release, Release]:
    first = deployed(project, group).release
    git_repo.commit({"second": "2"})
    second = deployed(project, group).release
    assert first is not None
    assert second is not None
    return first, second


def tree(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.readlink() if path.is_symlink() else path.read_bytes(),
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def half_delete(folder: Path) -> None:
    for path in sorted(folder.rglob("*.py"))[::2]:
        path.unlink()
    shutil.rmtree(folder / "a b")


def empty_one(folder: Path) -> None:
    (folder / "lib/3.py").write_text("")


def edit_one_of_the_same_size(folder: Path) -> None:
    path = folder / "lib/3.py"
    path.write_text(path.read_text().replace("3", "8"))


def swap_kinds(folder: Path) -> None:
    shutil.rmtree(folder / "lib")
    (folder / "lib").symlink_to("/etc")
    (folder / "first").unlink()
    (folder / "first").mkdir()
    (folder / "first" / "x").write_text("x")
    (folder / "link").unlink()
    (folder / "link").symlink_to("first")


def change_modes(folder: Path) -> None:
    (folder / "lib/3.py").chmod(0o600)
    (folder / "lib").chmod(0o700)


def change_odd_names(folder: Path) -> None:
    for name in ODD:
        (folder / name).unlink()


@pytest.mark.parametrize(
    "harm", [half_delete, empty_one, edit_one_of_the_same_size, swap_kinds, change_modes, change_odd_names]
)
@pytest.mark.parametrize("which", ["live", rarely("previous")])
def test_what_was_changed_by_hand_is_sent_again_before_it_is_live(project, group, git_repo, place, harm, which):
    first, second = two_releases(project, group, git_repo)
    release = second if which == "live" else first
    folder = place / "releases" / release.version
    before, inode = tree(folder), folder.stat().st_ino
    (folder / "cache").mkdir()
    (folder / "cache" / "x.pyc").write_text("the application's own")
    harm(folder)
    again_ = again(project, group, release)
    assert again_.status == "success", again_.error_message
    (folder / "cache" / "x.pyc").unlink()
    assert tree(folder) == before
    assert folder.stat().st_ino == inode, "applications have it as their working folder"
    assert (place / "current").resolve().name == release.version
    (line,) = said(again_, "was changed on web-1")
    assert f"Release {release} was changed on web-1 (" in line
    assert "sent again" in line
    assert not list(place.glob("releases/.*"))
    assert not Path("pwned").exists()
    assert not said(again(project, group, release), "was changed on")


def test_the_number_of_files_that_were_changed_is_said_and_the_first_are_named(project, group, git_repo, place):
    first, _second = two_releases(project, group, git_repo)
    for number in (3, 4, 5):
        (place / "releases" / first.version / f"lib/{number}.py").unlink()
    (line,) = said(again(project, group, first), "was changed on")
    assert line == (f"Release {first} was changed on web-1 (3 files): sent again: lib/3.py, lib/4.py, lib/5.py")


def test_what_an_application_writes_into_its_release_is_no_difference(project, group, git_repo, place):
    first, _second = two_releases(project, group, git_repo)
    folder = place / "releases" / first.version
    (folder / "lib/__pycache__").mkdir()
    (folder / "lib/__pycache__/3.pyc").write_text("x")
    (folder / "app.log").write_text("x")
    os.utime(folder / "lib/4.py", (0, 0))
    os.utime(folder / "lib/5.py")  # touched, and the same
    it = again(project, group, first)
    assert it.status == "success"
    assert said(it, f"{first} is already on the server")
    assert not said(it, "was changed")
    assert (folder / "app.log").exists()


def test_shared_paths_are_no_difference(project, group, git_repo, place):
    project.shared_paths = "uploads/, lib/3.py"
    project.save()
    first, _second = two_releases(project, group, git_repo)
    (place / "shared/uploads/photo").write_text("x")
    (place / "shared/lib/3.py").write_text("settings")
    assert said(again(project, group, first), "is already on the server")
    project.shared_paths = ""
    project.save()
    assert said(again(project, group, first), "was changed on web-1 (1 file)")
    assert (place / "current/lib/3.py").read_text() == FILES["lib/3.py"]
    project.shared_paths = "lib/3.py"
    project.save()
    it = again(project, group, first)
    assert not said(it, "was changed on")
    assert said(it, "it is not shared")


def test_without_its_archive_it_is_refused_with_the_names_of_the_files(project, group, git_repo, place):
    first, second = two_releases(project, group, git_repo)
    deployment = make_deployment(project, group, release=first, branch=first.commit_hash)
    Release.objects.filter(pk=first.pk).update(archive="")
    (place / "releases" / first.version / "lib/3.py").write_text("")
    assert carry_out(deployment.pk)
    target = deployment.targets.get()
    assert target.status == "failed"
    assert f"Release {first} was changed on web-1" in target.error
    assert "missing or different: lib/3.py" in target.error
    assert "no longer stored" in target.error
    assert (place / "current").resolve().name == second.version


def test_an_archive_that_is_gone_from_the_store_is_told_and_nothing_is_touched(project, group, git_repo, place):
    first, second = two_releases(project, group, git_repo)
    Path(first.archive.path).unlink()
    (place / "releases" / first.version / "lib/3.py").write_text("")
    target = again(project, group, first).targets.get()
    assert target.status == "failed"
    assert "lib/3.py" in target.error
    assert "cannot be read" in target.error
    assert (place / "releases" / first.version / "lib/4.py").exists()
    assert (place / "current").resolve().name == second.version


@pytest.mark.every_case
def test_without_its_archive_one_that_is_whole_goes_live(project, group, git_repo, place):
    first, _second = two_releases(project, group, git_repo)
    deployment = make_deployment(project, group, release=first, branch=first.commit_hash)
    Release.objects.filter(pk=first.pk).update(archive="")
    (place / "releases" / first.version / "app.log").write_text("x")
    assert carry_out(deployment.pk)
    assert deployment.targets.get().status == "success"


def test_a_release_from_before_manifests_is_taken_as_it_is(project, group, git_repo, place):
    first, _second = two_releases(project, group, git_repo)
    Release.objects.filter(pk=first.pk).update(manifest="")
    first.refresh_from_db()
    (place / "releases" / first.version / "lib/3.py").unlink()
    it = again(project, group, first)
    assert it.status == "success"
    assert said(it, "is already on the server")


def test_a_link_that_is_cut_while_it_is_sent_again_changes_nothing_about_the_end(sshd, project, git_repo, place):
    noise = random.Random(3)
    git_repo.commit({f"big/{number}": noise.randbytes(100_000) for number in range(10)})
    proxy = Proxy(sshd.port)
    try:
        group = make_group(make_server(sshd, port=proxy.port, name="web-1"))
        first, _second = two_releases(project, group, git_repo)
        folder = place / "releases" / first.version
        before = tree(folder)
        shutil.rmtree(folder / "big")
        proxy.strike_next("reset", 500_000)
        it = again(project, group, first)
    finally:
        proxy.close()
    assert it.status == "success", it.error_message
    assert said(it, "Uploading again")
    assert tree(folder) == before
    assert not list(place.glob("releases/.*"))


@pytest.mark.parametrize("harm", [half_delete, shutil.rmtree])
def test_an_automatic_rollback_goes_to_a_whole_release(project, group, git_repo, place, harm):
    first, _second = failing(project, group, git_repo)
    before = tree(place / "releases" / first.version)
    deployment = fails_after(project, group, git_repo, lambda: harm(place / "releases" / first.version), place)
    target = deployment.targets.get()
    assert (target.status, target.release_after) == ("rolled_back", first.version)
    assert tree(place / "releases" / first.version) == before
    assert (place / "current").resolve().name == first.version


def test_an_automatic_rollback_that_cannot_be_whole_is_refused_and_says_why(project, group, git_repo, place):
    first, _second = failing(project, group, git_repo)
    Release.objects.filter(pk=first.pk).update(archive="")
    deployment = fails_after(
        project, group, git_repo, lambda: (place / "releases" / first.version / "lib/3.py").unlink(), place
    )
    target = deployment.targets.get()
    assert (target.status, target.release_after) == ("failed", deployment.release and deployment.release.version)
    assert said(deployment, "Rolling back web-1 failed: ")
    assert said(deployment, "missing or different: lib/3.py")
    assert (place / "current").resolve().name == target.release_after


def failing(project, group, git_repo) -> tuple[Release, None]:
    """A good release, and a project that goes back to it."""
    project.auto_rollback = True
    project.save()
    first = deployed(project, group).release
    assert first is not None
    return first, None


def fails_after(project, group, git_repo, harm, place) -> Deployment:
    """A deployment that is unhealthy while somebody does ``harm``."""
    health = place.parent / "health"
    health.write_text("[ ! -e current/second ]\n")
    HealthCheck.objects.create(project=project, kind="command", target=f"cd {place} && . {health}", retries=0)
    git_repo.commit({"second": "2"})
    harm()
    return ended(project, group)


# --- deleting ----------------------------------------------------------------------------------------


def remove(folder: Path, *versions: str, nonce: str = "n1") -> list[str]:
    text = release_commands.remove(str(folder), versions, nonce)
    done = subprocess.run(["sh", "-c", text], check=True, capture_output=True, text=True)
    return release_commands.kept_back(done.stdout)


def test_a_release_loses_its_name_before_any_of_its_files_goes(tmp_path):
    for name in ("one", "it's 2"):
        (tmp_path / "releases" / name / "deep/er").mkdir(parents=True)
        (tmp_path / "releases" / name / "deep/er/file").write_text("x")
    seen = tmp_path / "seen"
    rm = tmp_path / "rm"
    rm.write_text(f'#!/bin/sh\nls -A {tmp_path}/releases >>{seen}\nexec /bin/rm "$@"\n')
    rm.chmod(0o755)
    text = release_commands.remove(str(tmp_path), ["one", "it's 2", "gone"], "n1")
    subprocess.run(["sh", "-c", text], check=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert seen.read_text().splitlines() == [".deleted.it's 2.n1", ".deleted.one.n1"]
    assert list((tmp_path / "releases").iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="a file system can be mounted by root only")
def test_what_cannot_be_deleted_is_kept_out_of_the_way_and_said_once(project, group, git_repo, place):
    project.keep_releases = 1
    project.save()
    first, _second = two_releases(project, group, git_repo)
    stuck = place / "releases" / first.version / "cache"
    stuck.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", stuck], check=True)  # a cache of another user, seen by root
    kept = None
    try:
        git_repo.commit({"third": "3"})
        third = deployed(project, group)
        (line,) = said(third, "could not be deleted whole")
        (kept,) = place.glob("releases/.deleted.*")
        assert f"Release {first} could not be deleted whole: {kept} holds" in line
        assert [path.name for path in kept.iterdir()] == ["cache"]
        assert said(third, f"Removed old releases: {first}")
        git_repo.commit({"fourth": "4"})
        assert not said(deployed(project, group), "could not be deleted whole")
        assert kept.exists()
        back = again(project, group, first)
        assert back.status == "success"
        assert said(back, "Uploaded")
    finally:
        subprocess.run(["umount", kept / "cache" if kept else stuck], check=True)
    git_repo.commit({"fifth": "5"})
    deployed(project, group)
    assert not list(place.glob("releases/.deleted.*"))


# --- the commands ------------------------------------------------------------------------------------


def test_mending_twice_does_no_harm_as_a_lost_link_may_have_it(tmp_path):
    release, work = tmp_path / "releases" / "one", tmp_path / "releases" / ".one.7-a.unpacking"
    (release / "is a file").mkdir(parents=True)
    (release / "is-a-folder").write_text("x")
    (work / "is-a-folder").mkdir(parents=True)
    for name in ("is a file", "is-a-folder/deep"):
        (work / name).write_text("right")
    (work / "link").symlink_to("is a file")
    entries = [Entry("f", "is a file", 0o644, 5), Entry("d", "is-a-folder", 0o755)]
    entries += [Entry("f", "is-a-folder/deep", 0o644, 5), Entry("l", "link", link="is a file")]
    text = wholeness.mend(str(tmp_path), "one", work.name, Damage(entries, ["is a file", "is-a-folder"], []))
    for _time in range(2):
        subprocess.run(["sh", "-s"], input=text, text=True, check=False, capture_output=True)
        assert (release / "is a file").read_text() == (release / "is-a-folder/deep").read_text() == "right"
        assert (release / "link").readlink() == Path("is a file")
        assert not work.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="a file system can be mounted by root only")
@pytest.mark.parametrize("which", ["live", "previous"])
def test_what_cannot_be_mended_where_it_lies_is_sent_whole_unless_it_is_live(project, group, git_repo, place, which):
    first, second = two_releases(project, group, git_repo)
    release = second if which == "live" else first
    stuck = place / "releases" / release.version / "lib"
    before = tree(stuck.parent)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", stuck], check=True)
    try:
        it = again(project, group, release)
        target = it.targets.get()
        if which == "live":
            assert target.status == "failed"
            assert f"Release {release} was changed on web-1" in target.error
            assert "Read-only file system" in target.error
        else:
            assert target.status == "success", target.error
            assert tree(place / "current") == before
            assert said(it, "(30 files): sent again: lib/0.py, lib/1.py, lib/10.py, lib/11.py, lib/12.py, …")
    finally:
        subprocess.run(
            ["umount", *[path for path in (stuck, *place.glob("releases/.deleted*/lib")) if path.is_mount()]]
        )


def test_what_is_compared_is_what_the_manifest_names(tmp_path):
    folder = tmp_path / "releases" / "one"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib/same").write_text("same")
    (folder / "lib/other").write_text("other")
    (folder / "extra").write_text("x")
    (folder / "line\nbreak").write_text("x")
    os.utime(folder / "lib/same", (0, 0))
    folder.joinpath("lib").chmod(0o755)
    for path in folder.joinpath("lib").iterdir():
        path.chmod(0o644)
    want = Manifest(
        [
            Entry("d", "lib", 0o755),
            Entry("f", "lib/same", 0o644, 4, sha256="not looked at: nobody wrote to it"),
            Entry("f", "lib/other", 0o644, 5, sha256="another"),
            Entry("f", "lib/gone", 0o644, 1),
        ]
    )
    text = wholeness.compare(str(tmp_path), "one", want.entries, 1000)
    done = subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True, check=False)
    wrong = damage(done.stdout, want)
    assert [entry.path for entry in wrong.send] == ["lib/gone", "lib/other"]
    assert (wrong.delete, wrong.modes) == ([], [])
    shutil.rmtree(folder / "lib")
    done = subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True, check=False)
    assert len(damage(done.stdout, want).send) == 4
