"""What a repository has is in the build, and a damaged copy of it on this machine stops no deployment."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deployer.engine.routines import carry_out
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, LogLine
from deployer.releases.workfolders import WorkFolder
from deployer.repositories.mirror import Mirror, fetch, mirror_path
from projects.commands.build import tools_of_script
from projects.commands.submodules import absolute
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.marks import rarely
from tests.parts.git import IDENTITY, GitRepository
from tests.parts.programs import program

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


class Site:
    """A project of ``repository`` on one server."""

    def __init__(self, sshd, folder: Path, repository: GitRepository) -> None:
        (folder / "restart.sh").touch()
        self.repository, self.place = repository, folder / "srv"
        self.project = make_project(
            git_url=repository.url, deploy_path=str(self.place), deploy_script_path=f"{folder}/restart.sh"
        )
        self.group = make_group(make_server(sshd))

    def deployed(self, *, branch: str = "", **values) -> Deployment:
        """Launch and carry out, with these values of the project."""
        for name, value in values.items():
            setattr(self.project, name, value)
        self.project.save()
        deployment = make_deployment(self.project, self.group, branch=branch, rebuild=True)
        assert carry_out(deployment.pk)
        return Deployment.objects.get(pk=deployment.pk)

    def built(self, script: str, **values) -> list[str]:
        """What a build script prints."""
        deployment = self.deployed(build_script=script, **values)
        assert deployment.status == "success", deployment.error_message
        return lines(deployment, stream="stdout")

    @property
    def live(self) -> Path:
        return self.place / "current"

    @property
    def mirror(self) -> Path:
        return mirror_path(self.repository.url)


def lines(deployment: Deployment, **where) -> list[str]:
    return list(LogLine.objects.filter(deployment=deployment, **where).values_list("content", flat=True))


@pytest.fixture
def site(sshd, tmp_path, git_repo) -> Site:
    return Site(sshd, tmp_path, git_repo)


# --- a copy on this machine that cannot be used ---------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("packed-refs.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_1"),
        *map(rarely, ("config.lock", "shallow.lock", "index.lock", "HEAD.lock")),
        *map(rarely, ("objects/pack/.tmp-1-pack-2.pack", "objects/info/commit-graphs/x.lock")),
    ],
)
def test_what_a_power_cut_leaves_in_a_mirror_is_deleted(site, name):
    assert site.deployed().status == "success"
    left = site.mirror / name
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    site.repository.commit({"a": "2"})
    deployment = site.deployed()
    assert deployment.status == "success", deployment.error_message
    assert not left.exists()
    assert not lines(deployment, level="warning", content__contains="cannot be used")


def _empty_objects(mirror: Path) -> None:
    for pack in [*mirror.glob("objects/pack/*.pack"), *mirror.glob("objects/??/*")]:
        pack.chmod(0o600)
        pack.write_bytes(b"")


def _delete_objects(mirror: Path) -> None:
    for path in [*mirror.glob("objects/pack/*"), *mirror.glob("objects/??/*")]:
        path.unlink()


def _one_file(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.write_text("")


DAMAGE = {
    "empty objects": _empty_objects,
    "no objects": _delete_objects,
    "an empty ref": lambda mirror: (mirror / "refs/heads/main").write_text(""),
    "a ref full of NULs": lambda mirror: (mirror / "refs/heads/main").write_bytes(bytes(41)),
    "a ref to nothing": lambda mirror: (mirror / "refs/heads/main").write_text("1" * 40 + "\n"),
    "an empty HEAD": lambda mirror: (mirror / "HEAD").write_text(""),
    "damaged packed-refs": lambda mirror: (mirror / "packed-refs").write_bytes(b"\0" * 200),
    "a damaged shallow": lambda mirror: (mirror / "shallow").write_text("x\n"),
    "no refs": lambda mirror: shutil.rmtree(mirror / "refs"),
    "a folder in the place of a ref": lambda mirror: (mirror / "refs/heads/other/main/x").mkdir(parents=True),
    "a file in its place": _one_file,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("has_new", [False, rarely(True)])
def test_a_damaged_mirror_is_made_again_once(site, damage, has_new):
    assert site.deployed().status == "success"
    damage(site.mirror)
    if has_new:
        site.repository.commit({"a": "2"})
    deployment = site.deployed()
    assert deployment.status == "success", deployment.error_message
    assert deployment.commit_hash == site.repository.head
    assert (site.live / "index.html").read_text() == "first\n"
    assert not [path for path in site.mirror.parent.iterdir() if "damaged" in path.name]


def test_a_person_who_fetches_has_a_damaged_mirror_made_again(site):
    assert site.deployed().status == "success"
    _empty_objects(site.mirror)
    site.repository.commit({"a": "2"})
    fetch(site.project)
    assert site.deployed().status == "success"


def test_a_repository_that_does_not_answer_costs_no_mirror(site, tmp_path):
    assert site.deployed().status == "success"
    inode = site.mirror.stat().st_ino
    site.repository.path.rename(tmp_path / "away")
    deployment = site.deployed()
    assert deployment.status == "failed"
    assert site.mirror.stat().st_ino == inode


def test_where_no_other_mirror_can_be_made_the_damaged_one_comes_back(site):
    assert site.deployed().status == "success"
    commit = site.repository.head
    site.repository.commit({"a": "2"})
    objects = [path for path in (site.repository.path / ".git/objects").glob("??/*") if path.is_file()]
    lost = next(path for path in objects if f"{path.parent.name}{path.name}" == commit)
    lost.unlink()  # the repository itself is damaged, and answers
    (site.mirror / "mark").touch()
    (site.mirror / "refs/heads/main").write_text("1" * 40 + "\n")
    deployment = site.deployed()
    assert deployment.status == "failed"
    assert (site.mirror / "mark").exists()


def test_the_line_that_names_the_cause_is_told_however_much_follows(site):
    hints = "\n".join(f"hint number {number}" for number in range(20))
    path = "/srv/" + "x" * 150 + "/packed-refs.lock"
    script = f"echo 'fatal: Unable to create {path}: File exists.' >&2; echo '{hints}' >&2; exit 1"
    deployment = site.deployed(build_script=script)
    assert f"Unable to create {path}: File exists." in deployment.error_message
    assert "hint number 19" in deployment.error_message


# --- the repository within a build ----------------------------------------------------------------------


def test_git_answers_for_the_application_within_its_build(site):
    site.repository.tag("v0.9")
    site.repository.git("tag", "-a", "v1.0", "-m", "One")
    for number in range(3):
        head = site.repository.commit({"a": str(number)})
    script = (
        "git describe; git describe --tags --dirty --long; git rev-parse HEAD; git branch --show-current; "
        "git status --short; git ls-files; git log --format=%s; git remote; git archive HEAD | tar -t"
    )
    printed = site.built(script)
    short = head[:7]
    names = ["a", "index.html"]
    past = ["Another commit"] * 3 + ["First commit"]
    assert printed == [f"v1.0-3-g{short}", f"v1.0-3-g{short}", head, "main", *names, *past, *names]
    assert not (site.live / ".git").exists()


def test_without_a_tag_the_commit_itself_is_known(site):
    site.repository.commit({"a": "1"})
    printed = site.built("git rev-parse HEAD; git describe --always; git rev-list --count HEAD; git fsck")
    assert printed[:3] == [site.repository.head, site.repository.head[:7], "1"]


def test_a_tag_and_a_merge_are_built_with_their_names(site):
    repository = site.repository
    repository.tag("v1")
    repository.branch("other")
    repository.commit({"b": "1"})
    repository.switch("main")
    repository.commit({"c": "1"})
    repository.git("merge", "--quiet", "--no-ff", "-m", "Merge", "other")
    repository.tag("v2")
    head = repository.commit({"d": "1"})
    repository.git("tag", "-a", "v3", "-m", "Three", "v1")
    printed = site.built("git describe; git describe --tags; git rev-list --count HEAD; git fsck --full")
    assert printed[:3] == [f"v3-4-g{head[:7]}", f"v2-1-g{head[:7]}", "5"]
    deployment = site.deployed(branch="v2", build_script="git describe --tags; git symbolic-ref -q HEAD || echo none")
    assert lines(deployment, stream="stdout") == ["v2", "none"]


def test_what_a_repository_leaves_out_of_archives_is_built_all_the_same(site):
    site.repository.commit(
        {
            ".gitattributes": "tests export-ignore\n/a.txt export-ignore\nversion export-subst\n",
            "tests/data/x": "1",
            "a.txt": "a",
            "version": "$Format:%H$\n",
        }
    )
    assert site.built("cat tests/data/x a.txt version; git status --short") == ["1a$Format:%H$"]


def test_a_repository_with_other_hashes_is_deployed(sshd, tmp_path):
    repository = GitRepository.__new__(GitRepository)
    repository.path = tmp_path / "repository"
    repository.url = str(repository.path)
    repository.path.mkdir()
    repository.git("init", "--quiet", "--initial-branch=main", "--object-format=sha256")
    repository.commit({"a": "1"})
    repository.git("tag", "-a", "v1", "-m", "One")
    site = Site(sshd, tmp_path, repository)
    assert site.built("git describe; git rev-parse HEAD") == ["v1", repository.head]
    head = repository.commit({"a": "2"})
    deployment = site.deployed()
    assert (deployment.status, deployment.commit_hash, len(head)) == ("success", head, 64)


def test_a_tree_with_a_repository_of_its_own_runs_nothing_of_it(site, tmp_path):
    mark = tmp_path / "mark"
    repository = site.repository
    blob = repository.path / "config"
    blob.write_text(f"[core]\n\tfsmonitor = touch {mark}\n\thooksPath = hooks\n")
    oid = repository.git("hash-object", "-w", "--no-filters", str(blob))
    blob.unlink()
    inner = subprocess.run(
        [program("git", "git"), "mktree"],
        input=f"100644 blob {oid}\tconfig\n",
        cwd=repository.path,
        env=os.environ | IDENTITY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    outer = subprocess.run(
        [program("git", "git"), "mktree"],
        input=f"040000 tree {inner}\t.git\n",
        cwd=repository.path,
        env=os.environ | IDENTITY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    commit = repository.git("commit-tree", outer, "-m", "Hostile")
    repository.git("update-ref", "refs/heads/main", commit)
    deployment = site.deployed(build_script="git status")
    assert deployment.status == "failed"
    assert not mark.exists()


# --- submodules -----------------------------------------------------------------------------------------


def add_submodule(repository: GitRepository, url: str, path: str) -> None:
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", "--", url, path)
    repository.commit({}, f"Add {path}")


def test_submodules_are_fetched_with_their_own_where_the_project_says_so(site, tmp_path):
    inner, module = GitRepository(tmp_path / "inner"), GitRepository(tmp_path / "module")
    inner.commit({"deep": "inner\n"})
    add_submodule(module, "../inner", "lib/inner")
    old = module.commit({"m": "old\n"})
    add_submodule(site.repository, "../module", "vendor/module")
    module.commit({"m": "new\n"})
    assert site.repository.git("-C", "vendor/module", "rev-parse", "HEAD") == old
    first = site.deployed()
    assert (first.status, lines(first, level="warning", content__contains="vendor/module")) != ("success", [])
    assert not [*(site.live / "vendor/module").iterdir()]
    second = site.deployed(submodules=True)
    assert second.status == "success", second.error_message
    assert (site.live / "vendor/module/m").read_text() == "old\n"
    assert (site.live / "vendor/module/lib/inner/deep").read_text() == "inner\n"
    assert not lines(second, level="warning", content__contains="ubmodule")


def test_the_commit_of_a_submodule_that_no_branch_leads_to_is_fetched(site, tmp_path):
    module = GitRepository(tmp_path / "module")
    module.branch("gone")
    module.commit({"m": "gone\n"})
    add_submodule(site.repository, "../module", "module")
    module.switch("main")
    module.git("branch", "--quiet", "-D", "gone")
    deployment = site.deployed(submodules=True)
    assert deployment.status == "success", deployment.error_message
    assert (site.live / "module/m").read_text() == "gone\n"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ext::sh -c touch% mark", "is not a git address"),
        ("http://127.0.0.1/x", "git over http is not supported"),
        ("../../../../../../../../x", "leads out of its host"),
        ("--upload-pack=touch mark", "is not a git address"),
        ("/nowhere/at/all", "does not appear to be a git repository"),
    ],
)
def test_a_submodule_is_fetched_only_from_an_address_that_a_project_could_have(site, tmp_path, url, said):
    GitRepository(tmp_path / "module")
    add_submodule(site.repository, "../module", "module")
    site.repository.git("config", "-f", ".gitmodules", "submodule.module.url", url)
    site.repository.commit({})
    deployment = site.deployed(submodules=True)
    assert deployment.status == "failed"
    assert "module" in deployment.error_message
    assert said in deployment.error_message


def test_submodules_that_contain_each_other_have_an_end(site, tmp_path):
    add_submodule(site.repository, str(site.repository.path), "again")
    # The first commit has no submodule; one that has itself in it is made by name.
    commit = site.repository.head
    for _round in range(7):
        site.repository.git("update-index", "--cacheinfo", f"160000,{commit},again")
        site.repository.git("commit", "--quiet", "-m", "Deeper")
        commit = site.repository.head
    deployment = site.deployed(submodules=True)
    assert deployment.status == "failed"
    assert "in at most 5 levels" in deployment.error_message


@pytest.mark.parametrize(
    ("url", "parent", "expected"),
    [
        ("../b.git", "https://git.example.com/team/a.git", "https://git.example.com/team/b.git"),
        ("../../b.git", "https://git.example.com/team/a.git", "https://git.example.com/b.git"),
        ("../../../b.git", "https://git.example.com/team/a.git", ""),
        ("./b", "ssh://git@git.example.com:2222/a/", "ssh://git@git.example.com:2222/a/b"),
        ("../b", "git@git.example.com:team/a.git", "git@git.example.com:team/b"),
        ("../../b", "git@git.example.com:team/a.git", "git@git.example.com:b"),
        ("../b", "/srv/git/a", "/srv/git/b"),
        ("https://other.example.com/b", "/srv/git/a", "https://other.example.com/b"),
    ],
)
def test_a_relative_address_begins_at_the_repository(url, parent, expected):
    assert absolute(url, parent) == expected


# --- large files ----------------------------------------------------------------------------------------


@pytest.fixture
def large(site) -> bytes:
    """A large file of the site's repository, kept in git LFS."""
    data = os.urandom(3000)
    site.repository.git("lfs", "install", "--local")
    site.repository.git("lfs", "track", "*.bin")
    site.repository.commit({"media/a.bin": data, "b.txt": "b"})
    return data


def test_large_files_are_fetched_where_the_project_says_so(site, large):
    first = site.deployed()
    assert first.status == "success"
    assert lines(first, level="warning", content__contains="media/a.bin")
    assert (site.live / "media/a.bin").read_text().startswith("version https://git-lfs")
    second = site.deployed(lfs=True)
    assert second.status == "success", second.error_message
    assert (site.live / "media/a.bin").read_bytes() == large
    assert not lines(second, level="warning", content__contains="LFS")


def test_a_damaged_large_file_in_the_mirror_is_fetched_again(site, large):
    assert site.deployed(lfs=True).status == "success"
    [kept] = (site.mirror / "lfs/objects").glob("??/??/*")
    kept.unlink()  # it may be a link to the repository's own
    kept.write_bytes(large[:100])
    assert site.deployed().status == "success"
    assert (site.live / "media/a.bin").read_bytes() == large


def test_a_large_file_that_the_server_lacks_is_named(site, large):
    shutil.rmtree(site.repository.path / ".git/lfs/objects")
    deployment = site.deployed(lfs=True)
    assert deployment.status == "failed"
    assert "LFS files could not be fetched" in deployment.error_message


def test_without_git_lfs_it_is_said_what_to_install(site, large, tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("git", "bash", "sh", "tar", "awk", "grep", "mkdir", "rm", "cat", "env"):
        (tools / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tools))
    deployment = site.deployed(lfs=True)
    assert "apt-get install git-lfs" in deployment.error_message


# --- what a build needs, and what a release must not have -----------------------------------------------


def test_a_program_that_an_automatic_install_needs_is_missed_before_anything_is_built(site, tmp_path, monkeypatch):
    monkeypatch.setattr("deployer.releases.isolation.BuildRoom.search_path", str(tmp_path))
    site.repository.commit({"package.json": "{}", "yarn.lock": ""})
    request = LaunchRequest(site.project, [site.group])
    deployment = site.deployed(project_type="frontend", auto_install=True)
    assert deployment.status == "failed"
    assert "builds do not find the program yarn" in deployment.error_message
    assert "DEPLOYER_BUILD_PATHS" in deployment.error_message
    assert not (site.place / "releases").exists()
    assert any("find the program yarn" in str(found) for found in preflight_of(request) if found.level == "error")


def test_a_program_that_a_script_seems_to_need_is_a_warning(site):
    script = "if false; then\n  zig build\nfi\necho lein"
    deployment = site.deployed(build_script=script)
    assert deployment.status == "success"
    [line] = lines(deployment, level="warning", content__contains="which builds do not find")
    assert "zig" in line
    found = preflight_of(LaunchRequest(site.project, [site.group]))
    assert [it.level for it in found if "zig" in str(it)] == ["warning"]


@pytest.mark.parametrize(
    ("script", "tools"),
    [
        ("npm ci && npm run build", ["npm"]),
        ("set -e\nNODE_ENV=production yarn build | tee x; (cd a && go build)", ["yarn", "go"]),
        ("curl -sSf https://example.com | sh\nuv sync", []),
        ("export PATH=$PWD/bin:$PATH\nhugo", []),
        ("./gradlew build\necho make", []),
    ],
)
def test_the_programs_of_a_script_are_guessed(script, tools):
    assert tools_of_script(script) == tools


def test_a_database_in_a_release_is_refused_unless_it_is_shared_or_meant(site):
    script = (
        "python3 -c \"import sqlite3; c = sqlite3.connect('app/db.sqlite3'); c.execute('create table t(x)')\"\n"
        "mkdir -p node_modules/x; cp app/db.sqlite3 node_modules/x/x.db; echo text > app/words.db"
    )
    site.repository.commit({"app/a": "1"})
    refused = site.deployed(build_script=script)
    assert refused.status == "failed"
    assert "app/db.sqlite3" in refused.error_message
    assert "words.db" not in refused.error_message
    assert "node_modules" not in refused.error_message
    assert "shared_paths" in refused.error_message
    assert site.deployed(shared_paths="app/db.sqlite3").status == "success"
    assert site.deployed(shared_paths="", keeps_database_files=True).status == "success"


def test_a_virtual_environment_in_a_release_is_refused_with_a_way_out(site):
    deployment = site.deployed(build_script="python3 -m venv --without-pip venv")
    assert deployment.status == "failed"
    assert "works only on the machine where it was made" in deployment.error_message
    assert "pip wheel" in deployment.error_message


def test_a_branch_of_more_than_a_hundred_characters_is_refused_with_a_way_out(site):
    with pytest.raises(LaunchRefusedError) as refused:
        site.deployed(branch="feature/" + "x" * 100)
    words = "branch may have at most 100 characters, and has 108: give a tag or the commit instead."
    assert (refused.value.message, refused.value.field) == (words, "branch")


def test_a_build_has_nothing_of_a_proxy_that_git_uses(site, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://ann:hush-hush@127.0.0.1:9")
    printed = site.built("env | grep -i proxy || echo none")
    assert printed == ["none"]
    with WorkFolder("git") as folder:
        mirror = Mirror("https://git.example.com/a.git", None, folder.path)
        code, _out, said = mirror.read(mirror.fetching())
    assert code != 0
    assert "127.0.0.1" in said
    assert "hush-hush" in mirror.secrets
