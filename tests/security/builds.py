"""What the build of a hostile branch tries: to read, to reach, to write, to stay, to take everything.

Each text is first run as deployer itself would run it: an attack that does nothing there would prove nothing.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from django.conf import settings
from django.db import connection
from django.test.utils import override_settings
from redis import Redis

from deployer.engine.routines import carry_out
from deployer.models import Deployment
from deployer.releases.caches import caches_of, clear_caches, kept_folders, size_of
from deployer.releases.isolation import BuildRoom, Isolation, Way, isolation
from deployer.releases.workfolders import WorkFolder
from people.models import User
from projects.commands import release as release_commands
from projects.models import Variable
from servers.errors import ShellError
from servers.isolation import LimitError, Network
from servers.isolation import User as MachineUser
from servers.local import LocalShell
from servers.shell import Script
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user
from tests.parts.git import GitRepository
from tests.parts.programs import HOUSE, PATIENCE, has_ended, kill_all, processes_running, wait_until
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import Worker
from tests.security.table import NotRunError, attack, is_root

_OPEN = Isolation(Way.NONE)
#: A project that no test has.
_PROJECT = 900_001


def _sandbox() -> Isolation:
    found = isolation()
    if found.way != Way.SANDBOX:
        raise NotRunError(f"no sandbox can be made here: {found.reason()}")
    return found


@contextlib.contextmanager
def _room(apart: Isolation, project: int = _PROJECT) -> Iterator[tuple[BuildRoom, Path]]:
    with WorkFolder("1") as folder:
        room = BuildRoom(apart, folder.path, kept_folders(project))
        room.furnish()
        try:
            yield room, folder.path
        finally:
            if apart.way == Way.SANDBOX:
                clear_caches(project)


def _run(apart: Isolation, text: str, project: int = _PROJECT, **env: str) -> str:
    """What a build script prints, and its status."""
    with _room(apart, project) as (room, _folder):
        return _run_in(room, text, **env)


def _run_in(room: BuildRoom, text: str, **env: str) -> str:
    said: list[bytes] = []
    shell = LocalShell("", room.for_scripts())
    code = shell.run(
        Script(text, {**room.environment, **env}, room.tree),
        lambda _stream, data: said.append(data),
        timeout=PATIENCE,
        stop=threading.Event(),
        strict=False,
    )
    shell.sweep()
    return b"".join(said).decode(errors="replace") + f"\nstatus {code}"


def _refused(text: str, mark: str, what: str) -> str:
    """Run ``text`` outside of a sandbox, where it prints ``mark``, and in one, where it must not."""
    apart = _sandbox()
    assert mark in _run(_OPEN, text), f"not even an open build {what}: the attack proves nothing"
    said = _run(apart, text)
    assert mark not in said, f"the build {what}: {said[-300:]}"
    return f"an open build {what}, one in a sandbox does not"


@attack("build", "reads the encryption key and the secret key")
def _keys(folder: Path) -> str:
    names = [path for path in Path(settings.DATA_DIR).glob("*.key") if path.is_file()]
    assert names
    mark = names[0].read_text().strip()
    paths = " ".join(map(str, names))
    return _refused(
        f"cat {paths}; for root in /proc/[0-9]*/root /proc/[0-9]*/cwd/..; do cat $root{names[0]}; done 2>/dev/null",
        mark,
        "prints a key",
    )


@attack("build", "reads the keys where no sandbox can be made, and root hands builds to another user")
def _keys_as_another(folder: Path) -> str:
    if not is_root():
        raise NotRunError("only root can hand a build to another user")
    apart = Isolation(Way.USER, user=MachineUser(65534, 65534))
    names = [*map(str, Path(settings.DATA_DIR).glob("*.key")), str(connection.settings_dict["NAME"]), "/proc/1/environ"]
    said = _run(apart, f"id -u; for name in {' '.join(names)}; do wc -c <$name || echo refused; done")
    assert said.splitlines()[0] == "65534", said
    assert said.count("refused") >= 3, said
    return f"{said.count('refused')} files are closed to it"


@attack("build", "reads the database, and makes its author a superuser")
def _database(folder: Path) -> str:
    if connection.vendor != "sqlite":
        raise NotRunError("the database is no file of this machine")
    user = make_user(f"author-{secrets.token_hex(4)}", is_superuser=False)
    promote = _PROMOTE.format(database=connection.settings_dict["NAME"], name=user.username)
    text = f"python3 - <<'END'\n{promote}END"
    _run(_OPEN, text)
    assert User.objects.get(pk=user.pk).is_superuser, "not even an open build does: the attack proves nothing"
    User.objects.filter(pk=user.pk).update(is_superuser=False)
    said = _run(_sandbox(), text)
    assert not User.objects.get(pk=user.pk).is_superuser, "the author became a superuser"
    return f"refused: {said.strip().splitlines()[-2]}"


_PROMOTE = """\
import sqlite3
with sqlite3.connect("{database}", timeout=20) as database:
    database.execute("UPDATE people_user SET is_superuser=1 WHERE username='{name}'")
"""


@attack("build", "talks to the queue by its socket")
def _queue(folder: Path) -> str:
    path = folder / "queue.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o777)
        folder.chmod(0o755)
        listener.listen()
        text = f"import socket; socket.socket(socket.AF_UNIX).connect('{path}'); print('conn' + 'ected')"
        return _refused(f'python3 -c "{text}"', "connected", "connects to the socket")


@attack("build", "talks to an abstract socket")
def _abstract(folder: Path) -> str:
    _own_network()
    name = f"deployer-{secrets.token_hex(4)}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        text = f"import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + '{name}'); print('conn' + 'ected')"
        return _refused(f'python3 -c "{text}"', "connected", "connects to the socket")


@attack("build", "talks to a service on the loopback of deployer's machine")
def _loopback(folder: Path) -> str:
    _own_network()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        hosts = "127.0.0.1 127.0.0.2 localhost 0.0.0.0 10.0.2.2 10.0.2.3 169.254.53.53"
        gateway = "$(ip route 2>/dev/null | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')"
        text = (
            f'for host in {hosts} {gateway}; do timeout 2 bash -c "true <>/dev/tcp/$host/{port}" && echo reached; done'
        )
        return _refused(f"{{ {text}; }} 2>/dev/null", "reached", "reaches the service")


def _own_network() -> None:
    if _sandbox().network == Network.HOST:
        raise NotRunError(f"builds share this machine's network: {isolation().reason()}")


@attack("build", "fetches a package from outside, as it may")
def _outside(folder: Path) -> str:
    """The other side: what keeps a build from the loopback must not keep it from the world."""
    _own_network()
    address = _address_of_this_machine()
    with socket.create_server((address, 0)) as listener:
        port = listener.getsockname()[1]
        said = _run(_sandbox(), f"timeout 20 bash -c 'true <>/dev/tcp/{address}/{port}' && echo reached")
    if isolation().forwarder == "pasta":
        raise NotRunError("with pasta the address of this machine is the build's own")
    assert "reached" in said, said
    return "a build reaches addresses that are not the loopback"


def _address_of_this_machine() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError as error:
            raise NotRunError("this machine has no network") from error
        return str(probe.getsockname()[0])


@attack("build", "reads the variables of deployer's processes")
def _variables_of_processes(folder: Path) -> str:
    mark = secrets.token_hex(12)
    with subprocess.Popen(["sleep", "1000"], env={"SECRET": mark}) as victim:
        try:
            return _refused("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'", mark, "reads them")
        finally:
            victim.kill()


@attack("build", "reads the variables of a worker, as another process of deployer's user")
def _worker(folder: Path) -> str:
    if is_root():
        raise NotRunError("root may read every process")
    queue = SimpleNamespace(client=Redis(unix_socket_path=str(settings.QUEUE_SOCKET)))  # it runs already
    worker = Worker(cast(QueueServer, queue))
    try:
        said = _run(_OPEN, f"cat /proc/{worker.process.pid}/environ; ls -l /proc/{worker.process.pid}/fd/")
    finally:
        worker.stop()
    assert "DEPLOYER_DATA_DIR" not in said, "the environment of a worker can be read"
    return "a worker is closed to other processes of its user"


@attack("build", "sees and signals other processes, and reads the memory of one")
def _processes(folder: Path) -> str:
    nap = f"sleep 6{secrets.randbelow(10**8):08}"
    with subprocess.Popen(nap.split()) as victim:
        try:
            found = _refused("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", nap, "sees a process of deployer's user")
            memory = f"head -c1 /proc/{victim.pid}/maps && echo opened"
            _refused(memory, "opened", "opens the memory of a process")
            _run(_sandbox(), f"kill -9 {victim.pid}; (sleep 1; kill -9 -1) & sleep 3")
            assert not has_ended(victim.pid), "a process of deployer was killed"
        finally:
            victim.kill()
    return found


@attack("build", "reads the cache of another project")
def _other_cache(folder: Path) -> str:
    mark, other = secrets.token_hex(8), _PROJECT + 1
    (kept_folders(other)[".npm"] / "token").write_text(mark)
    try:
        text = f"cat {caches_of(other)}/npm/token; find ~/.. {settings.CACHES_DIR} -name token -exec cat {{}} +"
        return _refused(text, mark, "reads it")
    finally:
        clear_caches(other)


@attack("build", "reads the home folder of deployer's user, the mirrors and the working folders")
def _homes(folder: Path) -> str:
    mark = secrets.token_hex(8)
    settings.MIRRORS_DIR.mkdir(mode=0o700, exist_ok=True)
    with WorkFolder("send") as sent:
        places = [Path.home() / f".deployer-{mark}", settings.MIRRORS_DIR / f"note-{mark}", sent.path / "release"]
        try:
            for path in places:
                path.write_text(f"{mark}\n")
            return _refused(f"cat {' '.join(map(str, places))} 2>/dev/null", mark, "reads them")
        finally:
            for path in places:
                path.unlink(missing_ok=True)


@attack("build", "reads what lies beside it: other files of this machine, passwords, host keys")
def _files(folder: Path) -> str:
    mark = secrets.token_hex(8)
    folder.chmod(0o755)
    (folder / "note").write_text(mark)
    said = _refused(f"cat {folder}/note", mark, "reads a file of this machine")
    listed = _run(
        _sandbox(), "ls /etc/shadow /etc/ssh /etc/sudoers /root/.ssh /var/lib /sys /srv /mnt 2>/dev/null; ls -d /home/*"
    )
    assert [line for line in listed.splitlines() if line.strip()] == ["/home/build", "status 0"], listed
    return said


@attack("build", "prints its own variables, to find those of deployer")
def _own_variables(folder: Path) -> str:
    mark = secrets.token_hex(8)
    os.environ["DEPLOYER_TRIED"] = mark
    try:
        said = _run(_sandbox(), "env; tr '\\0' '\\n' </proc/1/environ; cat /run/start", PLAIN="x")
    finally:
        del os.environ["DEPLOYER_TRIED"]
    assert mark not in said
    names = {line.partition("=")[0] for line in said.splitlines() if "=" in line and not line.startswith("export ")}
    strange = {name for name in names if name.startswith(("DEPLOYER", "DJANGO", "REDIS", "AWS"))} - {"DEPLOYER_RUN"}
    assert not strange, f"the build has {strange}"
    assert str(settings.DATA_DIR) not in said, "the build is told where the data folder is"
    return f"it has {len(names)} variables, none of them deployer's"


@attack("build", "writes outside of its tree")
def _writes(folder: Path) -> str:
    folder.chmod(0o777)
    places = [folder, settings.DATA_DIR, Path("/tmp"), HOUSE]
    name = f"planted-{secrets.token_hex(6)}"
    _run(_OPEN, f"touch {folder}/{name}")
    assert (folder / name).exists(), "not even an open build does: the attack proves nothing"
    (folder / name).unlink()
    targets = " ".join(f"{place}/{name}" for place in (*places, "/usr/bin", "/etc", "/opt", "/proc/sys/kernel", "/"))
    said = _run(_sandbox(), f"for file in {targets}; do touch $file; done; echo 1 >/proc/sys/kernel/panic; true")
    planted = [place for place in (*places, Path("/usr/bin"), Path("/etc"), Path("/")) if (place / name).exists()]
    assert not planted, f"it wrote into {planted}"
    return f"{said.count('Read-only') + said.count('Permission') + said.count('No such file')} attempts were refused"


@attack("build", "gets the rights of root by a variable that leads a program")
def _leading_variables(folder: Path) -> str:
    text = "id -u >>/build/who; cat /build/who"
    with _room(_sandbox()) as (room, place):
        trap = place / "tree" / "trap.sh"
        trap.write_text("id -u >>/build/who 2>/dev/null\n")
        trap.chmod(0o755)
        said = _run_in(
            room, text, BASH_ENV=f"{room.tree}/trap.sh", LD_PRELOAD=f"{room.tree}/trap.so", PATH=room.search_path
        )
    uids = {line for line in said.splitlines() if line.isdecimal()}
    user = _sandbox().user
    assert uids == {str(user.uid if user else os.getuid())}, said
    return f"what it leads runs as {uids.pop()}"


@attack("build", "leaves daemons behind that hide from deployer")
def _daemons(folder: Path) -> str:
    nap = f"sleep 6{secrets.randbelow(10**8):08}"
    text = f"(env -i setsid {nap} >/dev/null 2>&1 &)\nsetsid -f {nap} >/dev/null 2>&1\n{nap} &"
    with _room(_sandbox()) as (room, _place):
        shell = LocalShell("", room.for_scripts())
        script = Script(text, {}, room.tree)
        shell.run(script, lambda _stream, _data: None, timeout=PATIENCE, stop=threading.Event())
        left = processes_running(nap)  # no sweep yet: a packing would begin now
        counted = shell.sweep()
    kill_all(left)
    assert not left, f"{len(left)} processes live on"
    assert counted == 3, f"{counted} were counted"
    return "3 processes ended with the script, before anything is packed"


@attack("build", "lives on when the process of its worker is killed")
def _killed_worker(folder: Path) -> str:
    nap = f"sleep 6{secrets.randbelow(10**8):08}"
    with _room(_sandbox()) as (room, _place):
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                _run_in(room, f"trap '' TERM\n(env -i setsid {nap} &)\n{nap}")
            os._exit(0)
        try:
            wait_until(lambda: len(processes_running(nap)) == 2, "the build to run")
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
        wait_until(lambda: not processes_running(nap), "the build to end with it")
    return "every process of it is gone, without anybody's help"


@attack("build", "forks without end")
def _fork_bomb(folder: Path) -> str:
    nap = f"sleep 6{secrets.randbelow(10**8):08}"
    before = len(processes_running("sleep"))
    with override_settings(DEPLOYER_BUILD_PROCESSES=before + 60):
        try:
            said = _run(_sandbox(), f"for n in $(seq 400); do {nap} & done 2>/dev/null; sleep 4; echo counted")
        except LimitError as error:
            said = error.limit
    left = processes_running(nap)
    kill_all(left)
    assert not left
    assert said == "processes" or "counted" not in said or "status 0" not in said, "nothing stopped it"
    return f"it is ended: {said.strip()[-60:]}"


@attack("build", "fills the disk, by one file and by many")
def _disk(folder: Path) -> str:
    with override_settings(DEPLOYER_BUILD_DISK_MB=8):
        said = _run(_sandbox(), "head -c 30000000 /dev/zero >big; echo $?; stat -c %s big; exit 0")
        assert "8388608" in said, said
        many = "for n in $(seq 1000); do head -c 1000000 /dev/zero >file$n; sleep 0.05; done; sleep 60; echo filled"
        assert _limit(many) == "disk", "many files were written"
    return "one file stops at the limit, many files end the build"


@attack("build", "takes all of the memory")
def _memory(folder: Path) -> str:
    text = 'python3 -c \'x = bytearray(700_000_000); print("ta" + "ken")\'; true'
    assert "taken" in _run(_OPEN, text)
    with override_settings(DEPLOYER_BUILD_MEMORY_MB=400):
        said = _run(_sandbox(), text)
        assert "taken" not in said, "one process took more than it may"
        one = "python3 -c 'import time; x = b\"x\" * 250_000_000; time.sleep(60)'"
        assert _limit(f"for n in 1 2 3; do {one} & done; wait") == "memory", "three processes took it"
    return "neither one process nor three together get more than the limit"


def _limit(text: str) -> str:
    """The limit that ends a build script; empty where it is not ended."""
    try:
        _run(_sandbox(), text)
    except LimitError as error:
        return error.limit
    return ""


@attack("build", "lets its output folder lead out of its tree")
def _output_link(folder: Path) -> str:
    told = []
    for planted in (
        "ln -s / dist",
        "ln -s /usr/share dist",
        "mkdir x; ln -s ../../../../../../etc dist",
        "ln -s .. dist",
    ):
        for apart in (_sandbox(), _OPEN):
            code = _packed(apart, planted, "dist")[0]
            assert code == release_commands.OUTSIDE, f"{planted}: status {code}"
            told.append(code)
    return f"{len(told)} links are refused, in a sandbox and without one"


@attack("build", "sets traps in what is packed: pipes, links, a name that is an option")
def _traps(folder: Path) -> str:
    planted = (
        "mkfifo pipe; ln -s /etc/passwd link; ln -s / root; touch -- '--checkpoint-action=exec=sh x' x; mkdir -p a/b"
    )
    code, archive = _packed(_sandbox(), planted, "")
    assert code == 0
    names = subprocess.run(["tar", "-tvf", archive], capture_output=True, text=True, check=True).stdout
    assert "./pipe" in names
    assert "root:x:0" not in Path(archive).read_bytes().decode(errors="replace"), "a link was followed"
    return "they are packed as what they are, and refused when the archive is checked"


def _packed(apart: Isolation, planted: str, output: str) -> tuple[int, str]:
    """Let a build plant something, and pack its tree; gives the status, and a copy of the archive."""
    with _room(apart) as (room, place):
        _run_in(room, planted)
        script = Script(release_commands.pack(room.tree, output, f"{room.packed}/release.tar"), room.environment)
        code = LocalShell("", room.for_packing()).run(
            script, lambda _stream, _data: None, timeout=PATIENCE, stop=threading.Event()
        )
        copy = shutil.copy(place / "packed" / "release.tar", settings.DATA_DIR / "packed-by-attack") if not code else ""
        return code, str(copy)


@attack("build", "plants links in its cache that lead out, for the next build and for whoever clears it")
def _cache_links(folder: Path) -> str:
    victim = folder / "victim"
    victim.mkdir()
    (victim / "precious").write_text("x" * 1_000_000)
    text = f"""rm -rf ~/.npm; rmdir ~/.m2/repository
ln -s {victim} ~/.npm/out; ln -s {victim}/precious ~/.cache/file
mkdir ~/.npm/closed; touch ~/.npm/closed/x; chmod 500 ~/.npm/closed"""
    apart = _sandbox()
    with WorkFolder("1") as place:
        room = BuildRoom(apart, place.path, kept_folders(_PROJECT))
        room.furnish()
        _run_in(room, text)
    assert size_of(caches_of(_PROJECT)) < 1_000_000, "a link was followed to count"
    assert not [path for path in kept_folders(_PROJECT).values() if path.is_symlink()], "a folder became a link"
    with WorkFolder("1") as place:
        BuildRoom(apart, place.path, kept_folders(_PROJECT)).furnish()
    assert (victim / "precious").stat().st_uid == os.getuid(), "a link was followed to hand it over"
    clear_caches(_PROJECT)
    assert not caches_of(_PROJECT).exists(), "something was left"
    assert (victim / "precious").exists(), "a link was followed to delete"
    return "they are counted and deleted as links"


@attack("build", "learns from deployer's own repository")
def _own_repository(folder: Path) -> str:
    text = "git rev-parse HEAD; git describe --always"
    head = subprocess.run(["git", "-C", HOUSE, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    for apart in (_sandbox(), _OPEN):
        said = _run(apart, text)
        assert "not a git repository" in said, said
        assert not head or head.strip() not in said
    return "there is no repository above its tree"


@attack(
    "build", "reads the key of its repository while it runs, prints every credential; by a real deployment", short=False
)
def _whole(folder: Path) -> str:
    nap = f"sleep 6{secrets.randbelow(10**8):08}"
    mark = secrets.token_hex(10)
    sshd = OpenSSHServer()
    make_credential(password=mark)
    try:
        repository = GitRepository(folder / "repository")
        repository.commit({"restart.sh": "true"})
        project = make_project(
            name=f"stolen-{mark[:6]}",
            git_url=repository.url,
            git_credential=make_credential(sshd, name=f"git-{mark[:6]}"),
            build_script=f"find / -name git_key -o -name askpass 2>/dev/null\n{_PRINT_ALL}\n{nap}\necho built",
            deploy_path=str(sshd.home / "shop"),
            deploy_script_path="restart.sh",
        )
        Variable.objects.create(project=project, name="DEPLOYER_HOUSE", value=str(HOUSE), scope="build")
        deployment = make_deployment(project, make_group(make_server(sshd, name=f"web-{mark[:6]}")))
        worker = threading.Thread(target=carry_out, args=[deployment.pk])
        worker.start()
        wait_until(lambda: processes_running(nap) or not worker.is_alive(), "the build to run")
        keys = [*settings.BUILDS_DIR.rglob("git_key"), *settings.BUILDS_DIR.rglob("askpass")]
        kill_all(processes_running(nap))
        worker.join(PATIENCE)
    finally:
        sshd.close()
    deployment = Deployment.objects.get(pk=deployment.pk)
    log = "\n".join(deployment.log_lines.values_list("content", flat=True))
    assert not keys, f"the login lies beside the build: {keys}"
    assert mark not in log, "a password was printed"
    assert "git_key" not in log, log
    return "the login is gone before the build begins; no credential comes out"


@attack(
    "build",
    "reads the keys, the database and the data folder by steps on the platform; by a real deployment",
    short=False,
)
def _steps_on_the_platform(folder: Path) -> str:
    _sandbox()
    keys = [path for path in Path(settings.DATA_DIR).glob("*.key") if path.is_file()]
    assert keys
    mark = keys[0].read_text().strip()
    user = make_user(f"author-{secrets.token_hex(4)}", is_superuser=False)
    database = connection.settings_dict["NAME"] if connection.vendor == "sqlite" else ""
    promote = _PROMOTE.format(database=database, name=user.username) if database else ""
    text = f"""set +e
cat {" ".join(map(str, keys))}
for root in /proc/[0-9]*/root /proc/[0-9]*/cwd/..; do cat $root{keys[0]}; done 2>/dev/null
ls {settings.DATA_DIR} && echo "listed: $?"
echo x >{settings.DATA_DIR}/planted && echo "wrote: $?"
python3 - <<'END'
{promote}
END
echo "step: $DEPLOY_STEP"
exit 0"""
    said = _run(_OPEN, text)
    assert all(told in said for told in (mark, "listed: 0", "wrote: 0")), "not even an open build does it"
    Path(settings.DATA_DIR, "planted").unlink()
    assert not database or User.objects.get(pk=user.pk).is_superuser
    User.objects.filter(pk=user.pk).update(is_superuser=False)
    sshd = OpenSSHServer()
    try:
        repository = GitRepository(folder / "repository")
        repository.commit({"restart.sh": "true"})
        project = make_project(
            name=f"steps-{secrets.token_hex(3)}",
            git_url=repository.url,
            deploy_path=str(sshd.home / "shop"),
            deploy_script_path="restart.sh",
        )
        for moment in ("prepare", "before_all", "after_all"):
            project.steps.create(name=moment, moment=moment, kind="platform", script=text)
        deployment = make_deployment(project, make_group(make_server(sshd, name=f"web-{secrets.token_hex(3)}")))
        assert carry_out(deployment.pk)
    finally:
        sshd.close()
    deployment = Deployment.objects.get(pk=deployment.pk)
    log = "\n".join(deployment.log_lines.values_list("content", flat=True))
    assert log.count("\nstep: ") == 3, log
    assert not any(told in log for told in (mark, "listed: 0", "wrote: 0")), log
    assert not Path(settings.DATA_DIR, "planted").exists()
    assert not User.objects.get(pk=user.pk).is_superuser, "the author became a superuser"
    return "an open step does all of it, one in a sandbox nothing, at none of its three moments"


_PRINT_ALL = """\
cd "$DEPLOYER_HOUSE" && python3 - <<'END' || true
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")
import django
django.setup()
from servers.models import Credential
print([credential.password for credential in Credential.objects.all()])
END
cd /build"""


@attack("settings", "shows builds the data folder by DEPLOYER_BUILD_PATHS")
def _paths(folder: Path) -> str:
    from django.core.exceptions import ImproperlyConfigured

    from deployer.settings import build_paths

    (folder / "data" / "inner").mkdir(parents=True)
    (folder / "link").symlink_to(folder)
    refused = 0
    for shown in (folder, folder / "data", folder / "data" / "inner", folder / "link", Path("/"), Path("relative")):
        try:
            build_paths(str(shown), folder / "data")
        except ImproperlyConfigured:
            refused += 1
    assert refused == 6
    assert build_paths("/usr/share", folder / "data") == [Path("/usr/share")]
    return "six ways to do so are refused"


@attack("settings", "builds without isolation, where it is required")
def _required(folder: Path) -> str:
    with override_settings(DEPLOYER_BUILD_ISOLATION="required"):
        assert Isolation(Way.NONE).is_refused
        assert not Isolation(Way.USER).is_refused
    before = os.environ["PATH"]
    isolation.cache_clear()
    os.environ["PATH"] = str(folder)
    try:
        with override_settings(DEPLOYER_BUILD_ISOLATION="required"):
            found = isolation()
            refused = found.is_refused
    except ShellError as error:
        raise AssertionError(str(error)) from error
    finally:
        os.environ["PATH"] = before
        isolation.cache_clear()
    assert found.way == (Way.USER if is_root() else Way.NONE), found
    assert refused != is_root()
    return "without bubblewrap only root can build, as another user"
