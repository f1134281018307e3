"""Attacks on the keys, the start and the queue: the wrong key, wrong settings, jobs of strangers."""

import json
import os
import pickle
import pwd
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.db import connections
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone
from redis import Redis

from deployer.keyring import census, drop_unused, fingerprint, places, prepare_keys, rotate
from deployer.models import Deployment, EncryptionKey
from deployer.queue.sending import enqueue_deployment
from deployer.queue.sweep import LOST_JOB, sweep, take_over
from people.models import ApiToken
from projects.models import Variable
from servers.fields import Sealed
from servers.models import Credential
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user
from tests.parts.cue import Cue
from tests.parts.programs import PATIENCE, free_port, wait_until
from tests.parts.sshd import OpenSSHServer
from tests.parts.up import Up
from tests.parts.worker import MANAGE, Worker, process_environment
from tests.security.table import attack, is_root
from tests.site import PAGES, World, address_of

# --- what the attacks use -------------------------------------------------------------------------


def new_key() -> str:
    return Fernet.generate_key().decode()


def manage(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """One of the product's commands on the test's database."""
    values = process_environment() | environment
    return subprocess.run([*MANAGE, *arguments], env=values, capture_output=True, text=True, check=False)


def manage_in(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """One of the product's commands on a data folder of its own."""
    return manage(*arguments, **{"DEPLOYER_DATA_DIR": str(folder), "DATABASE_URL": ""} | environment)


def refused(done: "subprocess.CompletedProcess[str]", *words: str) -> str:
    """The sentence with which a command was refused, which must hold these words."""
    assert done.returncode != 0, f"it was done: {done.stdout}"
    assert "Traceback" not in done.stderr, done.stderr
    said = done.stderr.strip()
    for word in words:
        assert word in said, f"{word!r} is not said: {said}"
    return said.splitlines()[-1]


@contextmanager
def keys(*texts: str) -> Iterator[None]:
    """In this process and those that it starts these keys are at hand; in the end everything is as it was."""
    before = settings.DEPLOYER_ENCRYPTION_KEYS
    os.environ["DEPLOYER_ENCRYPTION_KEYS"] = ",".join(texts)
    try:
        with override_settings(DEPLOYER_ENCRYPTION_KEYS=[*texts]):
            yield
    finally:
        del os.environ["DEPLOYER_ENCRYPTION_KEYS"]
        with override_settings(DEPLOYER_ENCRYPTION_KEYS=[*before, *(text for text in texts if text not in before)]):
            EncryptionKey.objects.all().delete()
            for place in places():
                for _changed in rotate(place):
                    pass
        EncryptionKey.objects.all().delete()
        prepare_keys()


def own_key() -> str:
    return str(settings.DEPLOYER_ENCRYPTION_KEYS[0])


def queue() -> Any:
    """A client of the test's queue server, emptied."""
    client = Redis.from_url(f"unix://{settings.QUEUE_SOCKET}")
    client.flushall()
    return client


@contextmanager
def worker(client: Any, **environment: str) -> Iterator[Worker]:
    """A worker process on the test's database and queue."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        one = Worker(SimpleNamespace(client=client))  # type: ignore[arg-type]
    finally:
        for name in environment:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in environment if name in before})
    try:
        yield one
    finally:
        one.stop()


@contextmanager
def sshd() -> Iterator[OpenSSHServer]:
    with closing(OpenSSHServer()) as server:
        yield server


def restart(server: OpenSSHServer, folder: Path, text: str) -> Deployment:
    """A restart that is launched and on its way to a worker."""
    script = folder / "restart.sh"
    script.write_text(text)
    project = make_project(deploy_script_path=str(script), deploy_path=str(folder / "srv"))
    return make_deployment(project, make_group(make_server(server)), deployment_type="restart_only")


def end(*deployments: Deployment) -> None:
    """Let no other attack meet them."""
    rows = Deployment.objects.filter(pk__in=[it.pk for it in deployments])
    rows.active().update(status="failed", finished_at=timezone.now())


def said_of(deployment: Deployment) -> Any:
    return Deployment.objects.defer("plan").get(pk=deployment.pk)


def has_ended(deployment: Deployment) -> bool:
    return not said_of(deployment).is_active


def put(client: Any, name: str | bytes, data: bytes, **fields: Any) -> None:
    """Write a job to the queue as its library does."""
    job = {"data": data, "origin": "default", "status": "queued", "created_at": "2026-01-01T00:00:00.000000Z"}
    key = name if isinstance(name, bytes) else name.encode()
    client.hset(b"rq:job:" + key, mapping=job | fields)
    client.sadd("rq:queues", "rq:queue:default")
    client.rpush("rq:queue:default", key)


def call(function: str, *arguments: Any, **named: Any) -> bytes:
    return json.dumps([function, None, arguments, named]).encode()


def a_worker_refuses(folder: Path, plant: Any) -> str:
    """Have a worker meet what ``plant(client, proof)`` writes to the queue: it goes on, and ``proof`` is not there."""
    client, proof = queue(), folder / "proof"
    with sshd() as server, worker(client) as one:
        plant(client, proof)
        deployment = restart(server, folder, "true")
        wait_until(lambda: has_ended(deployment) or one.process.poll() is not None, "the deployment behind it")
        assert one.process.poll() is None, f"the worker ended: {one.log}"
        assert said_of(deployment).status == "success", one.log
        assert not proof.exists(), "it was executed"
        dropped = [line for line in one.log.splitlines() if "dropped" in line]
    return dropped[0] if dropped else ""


# --- the wrong key ----------------------------------------------------------------------------------


@attack("keys", "a worker with another key takes no deployment")
def _wrong_key(folder: Path) -> str:
    client = queue()
    make_credential()
    prepare_keys()
    deployment = make_deployment(make_project(), make_group(make_server()), deployment_type="restart_only")
    done = manage("rqworker", "default", DEPLOYER_ENCRYPTION_KEYS=new_key())
    said = refused(done, fingerprint(own_key()), "rotate_keys --forget")
    assert client.llen("rq:queue:default") == 1
    assert (said_of(deployment).status, said_of(deployment).tries) == ("pending", 0)
    web = subprocess.run(
        [sys.executable, "-c", "import deployer.wsgi"],
        env=process_environment() | {"DEPLOYER_ENCRYPTION_KEYS": new_key()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert web.returncode != 0
    assert fingerprint(own_key()) in web.stderr
    refused(manage("status", DEPLOYER_ENCRYPTION_KEYS=new_key()), fingerprint(own_key()))
    assert own_key() not in f"{done.stderr}{web.stderr}"
    assert EncryptionKey.objects.count() == 1
    end(deployment)
    return said


@attack("keys", "a worker whose key was rotated away while it ran stops before its next deployment", short=False)
def _overtaken(folder: Path) -> str:
    client, other = queue(), new_key()
    prepare_keys()
    with worker(client) as one, keys(other, own_key()):
        prepare_keys()
        deployment = make_deployment(make_project(), make_group(make_server()), deployment_type="restart_only")
        assert one.process.wait(PATIENCE) != 0, one.log
        assert fingerprint(other) in one.log.strip().splitlines()[-1], one.log
        assert said_of(deployment).status == "pending"
        end(deployment)
    return one.log.strip().splitlines()[-1]


@attack("keys", "a restored database without its key is started, and a new key made beside it", short=False)
def _restore(folder: Path) -> str:
    data = folder / "data"
    for words in (["version"], ["check"], ["help"]):
        assert manage_in(data, *words).returncode == 0
    assert not (data / "encryption.key").exists(), "a key was made before there was a database"
    assert manage_in(data, "migrate").returncode == 0
    code = "from servers.models import Credential as C; C.objects.create(name='a', kind='password', password='b')"
    assert manage_in(data, "shell", "-c", code).returncode == 0
    kept = (data / "encryption.key").read_text()
    (data / "encryption.key").unlink()
    said = ""
    for words in (["migrate"], ["up", "--bind", f"127.0.0.1:{free_port()}"], ["rqworker"], ["status"], ["rotate_keys"]):
        done = manage_in(data, *words, REDIS_URL=f"unix://{settings.QUEUE_SOCKET}")
        said = refused(done, f"{data}/encryption.key", fingerprint(kept.strip()))
        assert not (data / "encryption.key").exists(), f"{words[0]} made a new key"
    assert manage_in(data, "version").returncode == 0
    (data / "encryption.key").write_text(kept)
    assert manage_in(data, "status").returncode == 0
    (data / "encryption.key").unlink()
    assert manage_in(data, "rotate_keys", "--forget", fingerprint(kept.strip())).returncode == 0
    assert manage_in(data, "migrate").returncode == 0
    left = manage_in(data, "rotate_keys", "--check")
    assert left.returncode == 1
    assert "servers.Credential.password 1" in left.stderr, left.stderr
    return said


@attack("keys", "a database from before fingerprints is opened with another key", short=False)
def _upgraded(folder: Path) -> str:
    credential = make_credential()
    EncryptionKey.objects.all().delete()
    said = refused(manage("migrate", DEPLOYER_ENCRYPTION_KEYS=new_key()), "--forget unknown")
    assert not EncryptionKey.objects.exists()
    assert manage("migrate").returncode == 0
    assert [row.fingerprint for row in EncryptionKey.objects.all()] == [fingerprint(own_key())]
    credential.refresh_from_db()
    return said


# --- rotation ---------------------------------------------------------------------------------------


@attack("keys", "the key is rotated in the middle of a deployment", short=False)
def _in_the_middle(folder: Path) -> str:
    client, other, cue = queue(), new_key(), Cue(folder)
    prepare_keys()
    with keys(other, own_key()), sshd() as server:
        EncryptionKey.objects.filter(fingerprint=fingerprint(other)).delete()
        early = manage("rotate_keys")
        refused(early, "Nothing of the site runs with the newest key")
        with worker(client) as one:
            deployment = restart(server, folder, f"echo begun; {cue}; echo ended")
            cue.wait()
            done = manage("rotate_keys")
            assert done.returncode == 0, done.stderr
            again = manage("rotate_keys")
            assert again.returncode == 0
            assert "encrypted again" not in again.stdout
            cue.give()
            wait_until(lambda: has_ended(deployment), "the deployment to end")
            assert said_of(deployment).status == "success", one.log
            second = restart(server, folder, "true")
            wait_until(lambda: has_ended(second), "the deployment after it")
            assert said_of(second).status == "success", one.log
        checked = manage("rotate_keys", "--check", DEPLOYER_ENCRYPTION_KEYS=other)
        assert checked.returncode == 0, checked.stderr
        assert [row.fingerprint for row in EncryptionKey.objects.all()] == [fingerprint(other)]
    return done.stdout.strip().splitlines()[-1]


@attack("keys", "somebody saves secrets while they are being rotated")
def _concurrently(folder: Path) -> str:
    project, other = make_project(), new_key()
    rows = [Variable.objects.create(project=project, name=f"V{number}", value="0") for number in range(120)]
    written: dict[int, str] = {}
    stop = threading.Event()

    def write() -> None:
        try:
            for number in range(1, 1000):
                row = rows[number % len(rows)]
                Variable.objects.filter(pk=row.pk).update(value=str(number))
                written[row.pk] = str(number)
                if stop.is_set():
                    break
        finally:
            connections.close_all()

    with keys(other, own_key()):
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _round in range(3):
                for place in places():
                    assert all(changed >= 0 for changed in rotate(place))
        finally:
            stop.set()
            thread.join(PATIENCE)
        stale = next(place for place in places() if place.model is Variable)
        pk, token = next(iter(next(stale.tokens())))
        assert stale.replace(pk, token, token)
        assert not stale.replace(pk, "what stood there before", "lost"), "overwritten"
        values = dict(Variable.objects.filter(project=project).values_list("pk", "value"))
        lost = {pk: (value, values[pk]) for pk, value in written.items() if values[pk] != value}
        assert not lost, lost
        assert set(values.values()) <= {"0", *written.values()}
    return f"{len(written)} secrets were written meanwhile, and none of them lost"


@attack("keys", "a row is unreadable, and the old key is said to be free all the same")
def _left_over(folder: Path) -> str:
    prepare_keys()
    credential = make_credential()
    Credential.objects.filter(pk=credential.pk).update(password=Sealed("gAAAAAnonsense"))
    done = manage("rotate_keys")
    assert done.returncode == 1, done.stdout
    assert f"servers.Credential.password {credential.pk}" in done.stderr, done.stderr
    credential.delete()
    other = new_key()
    make_credential()
    with keys(other, own_key()):
        prepare_keys()
        assert drop_unused(census()) == [], "the old key was let go with rows under it"
    return done.stderr.strip().splitlines()[0]


# --- secrets that cannot be read --------------------------------------------------------------------


@contextmanager
def everything_damaged() -> Iterator[None]:
    """Every secret in the database opens with no key; in the end those that are still there do again."""
    batches = [(place, batch) for place in places() for batch in place.tokens()]
    rows = [(place, pk, token, f"{token[:-8]}AAAAAAA=") for place, batch in batches for pk, token in batch]
    for place, pk, token, damaged in rows:
        place.replace(pk, token, damaged)
    try:
        yield
    finally:
        Deployment.objects.active().update(status="failed", finished_at=timezone.now())
        for place, pk, token, damaged in rows:
            place.replace(pk, damaged, token)


@attack("page", "every secret in the database is damaged, and each page is opened", short=False)
def _damaged(folder: Path) -> str:
    queue()
    make_user("damage", "correct horse")
    world = World()
    secret = Variable.objects.create(project=world.project, name="TOKEN", value="x", is_secret=True)
    key = make_credential(kind="ssh_key", private_key="x", passphrase="y")
    token = ApiToken(name="damage", user=make_user())
    bearer = token.renew()
    token.save()
    with everything_damaged():
        return opened(world, key, secret, bearer)


def opened(world: World, key: Credential, secret: Variable, bearer: str) -> str:
    """Open all that there is as a superuser, a visitor of the API and somebody who enters a secret again."""
    client = Client(raise_request_exception=False)
    assert client.login(username="damage", password="correct horse")
    addresses = [address_of(name, world) for name in PAGES]
    addresses += [each.get_absolute_url() for each in Deployment.objects.defer("plan").all()[:20]]
    addresses += [reverse("admin:servers_credential_change", args=[row.pk]) for row in (world.credential, key)]
    addresses += [reverse("admin:projects_project_change", args=[world.project.pk])]
    addresses += [reverse(f"admin:{name}_changelist") for name in ("servers_credential", "projects_project")]
    addresses += [reverse("admin:deployer_deployment_changelist"), reverse("admin:servers_server_changelist")]
    asked = {address: client.get(address, follow=True) for address in addresses}
    post = dict.fromkeys(("deployment_type", "branch"), "x") | {"server_groups": world.group.pk}
    asked["launch"] = client.post(reverse("launch", args=[world.project.pk]), post | {"deployment_type": "full"})
    asked["check"] = client.post(reverse("launch_check", args=[world.project.pk]), post | {"deployment_type": "full"})
    for name in ("deployment_retry", "deployment_rollback"):
        asked[name] = client.post(reverse(name, args=[world.ended.pk]), follow=True)
    asked["look"] = client.post(reverse("project_look", args=[world.project.pk]), headers={"HX-Request": "true"})
    asked["fetch"] = client.post(reverse("launch_fetch", args=[world.project.pk]), headers={"HX-Request": "true"})
    asked["test"] = client.post(reverse("server_test", args=[world.server.pk]), follow=True)
    check = world.project.health_checks.first()
    assert check is not None
    asked["try"] = client.post(reverse("project_try", args=[world.project.pk, check.pk]), {"server": world.server.pk})
    api = Client(raise_request_exception=False, headers={"authorization": f"Bearer {bearer}"})
    for path in ("projects", "deployments", f"deployments/{world.ended.pk}", "servers", "server-groups"):
        asked[f"API {path}"] = api.get(f"/api/v1/{path}")
    launched = {"project_id": world.project.pk, "deployment_type": "full", "server_group_ids": [world.group.pk]}
    asked["API launch"] = api.post("/api/v1/deployments", launched, content_type="application/json")
    broken = {address: answer.status_code for address, answer in asked.items() if answer.status_code >= 500}
    assert not broken, broken
    for name, page in {
        "project_variables": address_of("project_variables", world),
        "credential_edit": reverse("credential_edit", args=[key.pk]),
    }.items():
        assert "Cannot be read: enter it again." in asked_text(client, page), name
    assert "cannot be read: enter it again" in asked_text(client, address_of("project", world))
    assert "cannot be decrypted" in asked["API launch"].content.decode(), asked["API launch"].content
    # What was not entered again stays as it is; what was is good again.
    stored = [*Credential.objects.filter(pk=key.pk).values_list("private_key", flat=True)]
    form = {"name": "renamed", "username": "x", "kind": "password", "password": "good again"}
    answer = client.post(reverse("credential_edit", args=[world.credential.pk]), form, follow=True)
    world.credential.refresh_from_db(fields=["name", "password"])
    assert (answer.status_code, world.credential.name, world.credential.password) == (200, "renamed", "good again")
    assert isinstance(stored[0], Sealed)
    copied = world.project.copy("copied with damage", "production")
    assert copied.variables.filter(name=secret.name).exists()
    copied.delete()
    sealed = sum(1 for answer in asked.values() if answer.status_code == 409)
    return f"{len(asked)} addresses answered without an error, {sealed} of them with the name of what cannot be read"


def asked_text(client: Client, address: str) -> str:
    return client.get(address).content.decode()


DECLARED = """\
projects:
  - name: {name}
    git_url: https://git.example.com/shop.git
    deploy_path: /srv/shop
    deploy_script_path: /srv/shop/restart.sh
    variables:
      - {{name: PLAIN, value: fresh}}
"""


@attack("page", "a command reads secrets that are damaged")
def _damaged_commands(folder: Path) -> str:
    project = make_project(name=f"damaged-{time.time_ns()}")
    Variable.objects.create(project=project, name="PLAIN", value="x")
    group = make_group(make_server())
    prepare_keys()
    declared = folder / "project.yaml"
    declared.write_text(DECLARED.format(name=project.name))
    with everything_damaged():
        said = refused(manage("deploy", project.name, "--group", group.name), "“PLAIN”", "enter the secret again")
        applied = manage("apply", str(declared))
        assert applied.returncode == 0, applied.stderr
        assert Variable.objects.get(project=project).value == "fresh"
    assert not Deployment.objects.filter(project=project).exists()
    return said


# --- settings ---------------------------------------------------------------------------------------


@attack("settings", "a secret key that can be guessed")
def _weak(folder: Path) -> str:
    said = refused(manage_in(folder, "check", DEPLOYER_SECRET_KEY="x"), "DEPLOYER_SECRET_KEY can be guessed")
    refused(manage_in(folder, "check", DEPLOYER_SECRET_KEY="ab" * 40), "DEPLOYER_SECRET_KEY can be guessed")
    return said


@attack("settings", "settings that are unknown or wrong, some with passwords in them", short=False)
def _wrong(folder: Path) -> str:
    hidden = "s3cretpassword"
    wrong = {
        "DEPLOYER_WORKRES": ("3", "did you mean DEPLOYER_WORKERS?"),
        "DEPLOYER_NONSENSE": ("x", "There is no setting DEPLOYER_NONSENSE"),
        "DEPLOYER_TIME_ZONE": ("Europe/Belrin", "did you mean Europe/Berlin?"),
        "DEPLOYER_ENCRYPTION_KEYS": (f"{new_key()},{hidden}", "Key number 2"),
        "DATABASE_URL": (f"postgres://user:12/{hidden}@host/name", "/ as %2F"),
        "REDIS_URL": (f"redis://:{hidden}#?@host:6379/0", "? as %3F, # as %23"),
        "DEPLOYER_STORAGE": (f"s3://me:{hidden}@bucket/folder", "its login is taken from the environment"),
    }
    said = ""
    for name, (value, words) in wrong.items():
        done = manage_in(folder, "check", **{name: value})
        said = refused(done, words)
        assert hidden not in done.stderr + done.stdout, f"{name}: the password is printed"
        web = {"DEPLOYER_DATA_DIR": str(folder), "DATABASE_URL": "", name: value}
        started = subprocess.run(
            [sys.executable, "-c", "import deployer.wsgi"],
            env=process_environment() | web,
            capture_output=True,
            text=True,
            check=False,
        )
        assert started.returncode != 0, f"{name}: the site starts"
    for url in ("postgres://user:x:{}@host:port/name", "redis://:{}@host:port/0"):
        name = "DATABASE_URL" if url.startswith("postgres") else "REDIS_URL"
        done = manage_in(folder, "check", **{name: url.format(hidden)})
        assert hidden not in refused(done, f"{name} cannot be read") + done.stderr
    return said


@attack("settings", "a data folder that others may read, or that is somebody else's", short=False)
def _open_folder(folder: Path) -> str:
    data = folder / "data"
    assert manage_in(data, "migrate").returncode == 0
    data.chmod(0o755)
    for name in ("encryption.key", "secret.key", "db.sqlite3"):
        (data / name).chmod(0o644)
    (data / "mirrors").mkdir(mode=0o755)
    assert manage_in(data, "check").returncode == 0
    open_to_others = [path.name for path in (data, *data.iterdir()) if path.stat().st_mode & 0o077]
    assert not open_to_others, open_to_others
    if not is_root():
        return "it was closed"
    nobody = pwd.getpwnam("nobody").pw_uid
    said = ""
    for path in (data / "encryption.key", data):
        mode = path.stat().st_mode
        os.chown(path, nobody, -1)
        path.chmod(mode | 0o044)
        said = refused(manage_in(data, "check"), f"{path} belongs to another user")
        os.chown(path, 0, -1)
    return said


@attack("settings", "what deployer writes is read by other users of its machine", short=False)
def _umask(folder: Path) -> str:
    os.umask(0o022)
    site = Up(folder / "data", "--workers", "1")
    try:
        site.wait_ready(1)
        assert site.get("/login/") == 200
        data = folder / "data"
        found = [path for path in data.rglob("*") if not path.is_symlink() and not within(path, data / "static")]
        names = {path.name for path in found}
        assert {"db.sqlite3", "db.sqlite3-wal", "encryption.key", "secret.key", "up.lock", "queue"} <= names, names
        loose = [path for path in found if path.stat().st_mode & 0o077 and not closed_above(path, data)]
        assert not loose, loose
        assert data.stat().st_mode & 0o077 == 0
        umasks = {
            re.search(r"^Umask:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]  # type: ignore[index]
            for pid in site.processes
        }
        assert umasks == {"0077"}, umasks
    finally:
        site.end()
    return f"{len(found)} files and folders, all of them closed"


def within(path: Path, folder: Path) -> bool:
    return folder in (path, *path.parents)


def closed_above(path: Path, data: Path) -> bool:
    """Whether a folder between the data folder and the file keeps others out."""
    return any(data in each.parents and each.stat().st_mode & 0o077 == 0 for each in path.parents)


@attack("settings", "a site that is weakly set up is checked", short=False)
def _weak_site(folder: Path) -> str:
    weak = {"REDIS_URL": "redis://192.0.2.1:6379/0", "DEPLOYER_ALLOWED_HOSTS": "*", "DEPLOYER_BIND": "0.0.0.0:8000"}
    done = manage_in(folder, "check", "--deploy", "--fail-level", "WARNING", **weak)
    said = refused(done, "deployer.W001", "deployer.W002", "deployer.W003", "deployer.W004")
    strong = {"REDIS_URL": "rediss://:password@192.0.2.1:6379/0", "DEPLOYER_HTTPS": "yes"}
    strong["DJANGO_ALLOW_ASYNC_UNSAFE"] = ""  # which only the tests set
    clean = manage_in(folder, "check", "--deploy", "--fail-level", "WARNING", **strong)
    assert clean.returncode == 0, clean.stderr
    return said


# --- the queue --------------------------------------------------------------------------------------


@attack("queue", "a job that calls os.system")
def _system(folder: Path) -> str:
    return a_worker_refuses(
        folder,
        lambda client, proof: put(client, "deployment-4711", call("os.system", f"touch {proof}")),
    )


class Bomb:
    """Executed by being unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@attack(
    "queue",
    "a job in pickle, under one of our names and with pickled results, and one of an older version",
    short=False,
)
def _pickle(folder: Path) -> str:
    def plant(client: Any, proof: Path) -> None:
        bomb = pickle.dumps(Bomb(f"touch {proof}"))
        put(client, "deployment-4711", bomb)
        ours = call("deployer.queue.jobs.run_deployment", 4712)
        put(client, "deployment-4712", ours, meta=bomb, result=bomb)
        put(client, "look", pickle.dumps(("deployer.queue.jobs.look_at_servers", None, (), {})))
        client.zadd("rq:wip:default", {"deployment-4711:x": 1})
        client.zadd("rq:failed:default", {"deployment-4711": 1})

    return a_worker_refuses(folder, plant)


@attack("queue", "a deployment that waits on the queue as an older version wrote it", short=False)
def _older(folder: Path) -> str:
    client = queue()
    with sshd() as server:
        deployment = restart(server, folder, "true")
        client.flushall()
        name = f"deployment-{deployment.pk}"
        put(client, name, pickle.dumps(("deployer.queue.jobs.run_deployment", None, (deployment.pk,), {})))
        with worker(client) as one:
            wait_until(lambda: not client.exists(f"rq:job:{name}"), "the old job to be dropped")
            assert said_of(deployment).status == "pending"
            Deployment.objects.filter(pk=deployment.pk).update(created_at=timezone.now() - LOST_JOB - timedelta(1))
            wait_until(lambda: has_ended(deployment), "the sweep to send it again")
            assert said_of(deployment).status == "success", one.log
    return "it was dropped, sent again by the sweep and carried out"


@attack("queue", "callbacks, webhooks and dependents of a job that is ours otherwise", short=False)
def _callbacks(folder: Path) -> str:
    module = folder / "planted.py"

    def plant(client: Any, proof: Path) -> None:
        module.write_text(f"open({str(proof)!r}, 'w')\ndef evil(*_): open({str(proof)!r}, 'w')\n")
        fields = {f"{when}_callback_name": "planted.evil" for when in ("success", "failure", "stopped")}
        hook = json.dumps([{"url": "http://127.0.0.1:9/", "events": ["finished", "failed"]}])
        more = {"webhooks": hook, "retries_left": 99, "timeout": 1, "group_id": "x", "rate_limit_key": "x"}
        put(client, "deployment-4711", call("deployer.queue.jobs.run_deployment", 4711), **fields, **more)
        put(client, "look", call("deployer.queue.jobs.look_at_servers"), **fields)
        client.sadd("rq:job:look:dependents", "evil")
        client.hset("rq:job:evil", mapping={"data": call("os.system", f"touch {proof}"), "origin": "default"})
        client.zadd("rq:scheduled:default", {"evil": 1})

    os.environ["PYTHONPATH"] = str(folder)
    try:
        a_worker_refuses(folder, plant)
    finally:
        del os.environ["PYTHONPATH"]
    return "nothing of them was called"


@attack("queue", "our own functions with hostile arguments")
def _arguments(folder: Path) -> str:
    run, settle = (f"deployer.queue.jobs.{name}_deployment" for name in ("run", "settle"))

    def plant(client: Any, _proof: Path) -> None:
        put(client, "deployment-1", call(run, "1; touch /tmp/x"))
        put(client, "deployment-2", call(run, True))
        put(client, "deployment-3", call(run, -3))
        put(client, "deployment-4", call(run, [4]))
        put(client, "deployment-5", call(run, 10**40))
        put(client, "deployment-6", call(run, deployment_id=6))
        put(client, "deployment-7", call(settle, 7))
        put(client, "deployment-8-settle", call(run, 8))
        put(client, "deployment-9", call("deployer.queue.jobs.carry_out", 9))
        put(client, "deployment-10", b"[" * 900)
        put(client, "deployment-11", b"x" * 10_000_000)
        put(client, "deployment-12", b"")
        put(client, "deployment-13", call(run, 13), status="nonsense", result_ttl="x")
        put(client, "deployment-14", call(run, 14), created_at=b"\xff")

    return a_worker_refuses(folder, plant)


@attack("queue", "names that are no text, and lists of the queue that are none", short=False)
def _names(folder: Path) -> str:
    def plant(client: Any, _proof: Path) -> None:
        client.rpush("rq:queue:default", b"\xff\xfe", b"a name\nERROR with a line", b"", b"a" * 100_000, b"gone")
        client.zadd("rq:wip:default", {b"\xff": 1, "x:y": 1})
        client.sadd("rq:groups", b"\xff")

    return a_worker_refuses(folder, plant) or "they were passed over"


@attack("queue", "commands to a worker: to stop, and to kill what it carries out", short=False)
def _commands(folder: Path) -> str:
    client, cue = queue(), Cue(folder)
    with sshd() as server, worker(client) as one:
        deployment = restart(server, folder, str(cue))
        cue.wait()
        for command in ("kill-horse", "shutdown", "stop-job"):
            said = json.dumps({"command": command, "job_id": f"deployment-{deployment.pk}"})
            assert client.publish(f"rq:pubsub:{one.name}", said) == 0, "somebody listens"
        cue.give()
        wait_until(lambda: has_ended(deployment), "the deployment to end")
        assert said_of(deployment).status == "success", one.log
        assert one.process.poll() is None
    return "nobody listens to them"


@attack("queue", "a job that kills whoever takes it, again and again", short=False)
def _killing(folder: Path) -> str:
    client = queue()
    (folder / "sitecustomize.py").write_text(
        "import os, signal\nos.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    deployment = make_deployment(make_project(), make_group(make_server()), deployment_type="restart_only")
    with worker(client, PYTHONPATH=str(folder)) as one:
        for number in (1, 2, 3):
            wait_until(lambda number=number: said_of(deployment).tries >= number, f"try {number}")  # type: ignore[misc]
            wait_until(lambda: one.is_idle, "the worker to be done with it")
            enqueue_deployment(deployment.pk)
        wait_until(lambda: has_ended(deployment), "the deployment to end")
        time.sleep(1)
    it = said_of(deployment)
    assert (it.status, it.tries) == ("failed", 3), (it.status, it.tries)
    assert "killed by signal 9" in it.error_message, it.error_message
    assert it.log_lines.filter(content=it.error_message).exists()
    assert it.targets.get().status == "skipped"
    make_deployment(it.project, *it.server_groups.all(), deployment_type="restart_only").request_cancel()
    return str(it.error_message)


@attack("queue", "a deployment whose plan is damaged, or none, is sent to the workers for ever", short=False)
def _damaged_plan(folder: Path) -> str:
    client = queue()
    made = []
    for plan in ({"name": "x"}, None):  # before there is a worker, which would take them as they are
        deployment = make_deployment(make_project(), make_group(make_server()), deployment_type="restart_only")
        Deployment.objects.filter(pk=deployment.pk, status="pending").update(plan=plan or Sealed("gAAAAA"))
        made.append(deployment)
    client.delete("rq:queue:default")
    with worker(client) as one:
        for _try in range(3):
            for deployment in made:
                enqueue_deployment(deployment.pk)
            wait_until(lambda: client.llen("rq:queue:default") == 0 and one.is_idle, "the worker to be done")
        wait_until(lambda: all(has_ended(it) for it in made), "both to end")
    Deployment.objects.filter(pk__in=[it.pk for it in made]).update(plan={})  # the other attacks find nothing damaged
    shape, sealed = (said_of(it) for it in made)
    assert (shape.status, sealed.status) == ("failed", "failed")
    assert "Given up after 3 tries: deployer itself failed" in shape.error_message, shape.error_message
    assert "cannot be decrypted" in sealed.error_message, sealed.error_message
    assert sealed.tries == 1
    return str(sealed.error_message)


@attack("queue", "a deployment whose every worker is lost while it asks the servers what is true")
def _lost_settling(folder: Path) -> str:
    queue()
    deployment = make_deployment(make_project(), make_group(make_server()), deployment_type="restart_only")
    assert deployment.claim_for_worker()
    assert take_over(said_of(deployment), "was lost")
    for _try in range(3):
        Deployment.count_try(deployment.pk)
        row = said_of(deployment)
        assert row.claim_to_settle()
        take_over(said_of(deployment), "was lost")
    it = said_of(deployment)
    assert (it.is_active, it.status, it.targets.get().status) == (False, "interrupted", "unknown")
    assert sweep()["again"] == [] or not Deployment.objects.active().filter(pk=deployment.pk).exists()
    return str(it.error_message)


# --- people ---------------------------------------------------------------------------------------


@attack("sign-in", "pages of somebody who was logged in are read from a cache")
def _cached(folder: Path) -> str:
    client = Client()
    user = make_user()
    token = ApiToken(name="cached", user=user)
    bearer = token.renew()
    token.save()
    deployment = make_deployment(make_project(), make_group(make_server()), deployment_type="restart_only")
    client.force_login(user)
    answers = {
        name: client.get(address)
        for name, address in {
            "home": reverse("home"),
            "deployment": deployment.get_absolute_url(),
            "poll": reverse("deployment_poll", args=[deployment.pk]),
            "log": reverse("deployment_log", args=[deployment.pk]),
            "admin": reverse("admin:index"),
            "queue": "/rq/",
            "missing": "/nothing-here/",
        }.items()
    }
    answers["API"] = Client(headers={"authorization": f"Bearer {bearer}"}).get("/api/v1/deployments")
    answers["API refused"] = Client().get("/api/v1/deployments")
    kept = {name: answer.get("Cache-Control", "") for name, answer in answers.items()}
    assert all({"no-store", "private"} <= set(value.split(", ")) for value in kept.values()), kept
    end(deployment)
    return f"{len(answers)} answers, none of them to be stored"


@attack("API", "a token that was stolen outlives the password")
def _tokens(folder: Path) -> str:
    user = make_user(password="correct horse")
    token = ApiToken(name="stolen", user=user)
    bearer = token.renew()
    token.save()
    api = Client(headers={"authorization": f"Bearer {bearer}"})
    assert api.get("/api/v1/deployments").status_code == 200
    here, there = Client(), Client()
    for each in (here, there):
        assert each.login(username=user.username, password="correct horse")
    form = {"old_password": "correct horse", "new_password1": "battery staple 7", "new_password2": "battery staple 7"}
    assert here.post(reverse("password"), form).status_code == 302
    assert api.get("/api/v1/deployments").status_code == 200, "it was revoked without being asked for"
    assert there.get(reverse("home")).status_code == 302, "the other session lives"
    form = form | {"old_password": "battery staple 7", "new_password1": "staple battery 8", "revoke_tokens": "on"}
    form["new_password2"] = form["new_password1"]
    assert here.post(reverse("password"), form).status_code == 302
    assert api.get("/api/v1/deployments").status_code == 401, "the token still works"
    return "it died with the password, as was asked for"
