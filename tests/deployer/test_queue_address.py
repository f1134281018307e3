"""The queue server's address: what it may say, and a deployment by way of Sentinels and of TLS."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from deployer.host.addresses import queue_weaknesses
from deployer.host.queue_address import read_address, rq_options
from deployer.models import Deployment
from deployer.queue.rollcall import roll_call
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.cue import Cue
from tests.parts.programs import kill_all, processes_in, stop_process, wait_until
from tests.parts.queue import QueueServer
from tests.parts.queues import SentinelQueue, TlsQueue
from tests.parts.worker import MANAGE, process_environment


def test_one_server_and_sentinels_are_read() -> None:
    one = read_address("rediss://:se%2Fcret@queue.example.com:6380/2?ssl_cert_reqs=optional")
    assert (one.hosts, one.is_encrypted) == (("queue.example.com",), True)
    assert rq_options("redis://localhost") == {"URL": "redis://localhost"}
    some = rq_options(
        "redis+sentinel://me:se%2Fcret@a:26380,[::1]/main/3?sentinel_password=x%26&health_check_interval=9"
    )
    assert some["SENTINELS"] == [("a", 26380), ("::1", 26379)]
    assert some["MASTER_NAME"] == "main"
    wanted = {"username": "me", "password": "se/cret", "db": 3, "health_check_interval": 9}
    assert wanted.items() <= some["CONNECTION_KWARGS"].items()
    assert some["SENTINEL_KWARGS"]["password"] == "x&"
    assert not {"username", "db", "host"} & {*some["SENTINEL_KWARGS"]}


def test_encryption_is_for_the_sentinels_and_the_master(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    some = rq_options(f"rediss+sentinel://a,b/main?ssl_ca_certs={tmp_path}/ca.pem&ssl_check_hostname=false")
    for links in ("CONNECTION_KWARGS", "SENTINEL_KWARGS"):
        wanted = {"ssl": True, "ssl_ca_certs": f"{tmp_path}/ca.pem", "ssl_check_hostname": False}
        assert wanted.items() <= some[links].items()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://host", r"must begin with redis://, .* or rediss\+sentinel://"),
        ("redis://:secret/@host", "/ as %2F"),
        ("redis://:secret@host:port/0", "cannot be read"),
        ("redis+sentinel://:secret@host:26379", "cannot be read.*MASTER"),
        ("redis+sentinel://:secret@host:port/main", "cannot be read"),
        ("redis+sentinel://:secret@a,,b/main", "cannot be read"),
        ("redis+sentinel://:secret@a/main/zero", "cannot be read"),
        ("redis://:secret@host?ssl_ca_certs=/etc", "an option that redis:// does not take: ssl_ca_certs"),
        ("rediss://:secret@host?ssl_ca_certz=/etc", "an option that rediss:// does not take: ssl_ca_certz"),
        ("rediss://:secret@host?ssl_ca_certs=/nowhere", "must name what is there, not '/nowhere'"),
        ("rediss+sentinel://:secret@host/main?ssl_cert_reqs=maybe", "none, optional or required"),
        ("redis://:secret@host?socket_timeout=soon", "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=why) as refused:
        read_address(url)
    assert "secret" not in str(refused.value)


def test_what_is_weak_about_the_way_to_sentinels_is_said() -> None:
    assert set(queue_weaknesses("redis+sentinel://127.0.0.1,queue-2/main")) == {1, 2}
    assert not queue_weaknesses("rediss+sentinel://:x@queue-1,queue-2/main")
    assert not queue_weaknesses("redis+sentinel://127.0.0.1,localhost/main")
    assert not queue_weaknesses("unix:///run/queue.sock")
    assert not queue_weaknesses("")


# --- real ones -------------------------------------------------------------------------------------


@pytest.fixture
def sentinels() -> Iterator[SentinelQueue]:
    queue = SentinelQueue()
    yield queue
    queue.close()


@pytest.fixture
def by_address(tmp_path: Path) -> Iterator[Any]:
    """``by_address(url)`` starts a worker on a queue server; gives its process."""
    started: list[subprocess.Popen[bytes]] = []

    def start(url: str) -> "subprocess.Popen[bytes]":
        with (tmp_path / "worker.log").open("ab") as log:
            environment = process_environment() | {"REDIS_URL": url}
            command = [*MANAGE, "worker", "deploy"]
            started.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            )
        return started[-1]

    yield start
    for process in started:
        stop_process(process, patience=10)
        kill_all(processes_in({process.pid}))


@pytest.mark.django_db(transaction=True)
def test_when_the_master_is_gone_what_runs_goes_on_and_the_same_worker_takes_what_comes(
    sentinels: SentinelQueue, by_address: Any, sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {name: value for name, value in settings.RQ_QUEUES["default"].items() if name != "URL"}
    monkeypatch.setitem(settings.RQ_QUEUES, "default", own | rq_options(sentinels.url))
    worker = by_address(sentinels.url)

    def log() -> str:
        return (tmp_path / "worker.log").read_text()

    def at_work() -> list[int | None]:
        called = roll_call()
        return [it.deployment for it in called.workers if it.is_alive] if called else []

    def end(deployment: Deployment) -> str:
        wait_until(lambda: not Deployment.objects.active().filter(pk=deployment.pk).exists(), f"an end\n{log()}")
        return Deployment.objects.get(pk=deployment.pk).status

    wait_until(lambda: at_work() == [None], "the worker to be there")
    cue = Cue(tmp_path)
    script = tmp_path / "restart.sh"
    script.write_text(f"{cue}; echo done")
    project = make_project(deploy_script_path=str(script))
    group = make_group(make_server(sshd))
    first = make_deployment(project, group, deployment_type="restart_only")
    cue.wait()
    assert at_work() == [first.pk]
    sentinels.kill_master()
    wait_until(lambda: sentinels.has_failed_over, "the Sentinel to name another master")
    wait_until(lambda: at_work() == [first.pk], "the worker to show a sign of life there")
    assert worker.poll() is None, log()
    cue.give()
    assert end(first) == "success"
    second = make_deployment(project, group, deployment_type="restart_only")
    assert end(second) == "success"
    assert worker.poll() is None, log()


@pytest.mark.django_db(transaction=True)
def test_a_server_behind_tls_is_reached_by_whoever_trusts_it(
    queue_server: QueueServer, by_address: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = TlsQueue(queue_server.socket, tmp_path)
    trusting = f"rediss://localhost:{queue.port}/0?ssl_ca_certs={queue.certificate}"

    def called(url: str) -> Any:
        monkeypatch.setitem(settings.RQ_QUEUES, "default", {**settings.RQ_QUEUES["default"], **rq_options(url)})
        return roll_call()

    try:
        worker = by_address(trusting)
        wait_until(lambda: worker.poll() is not None or called(trusting).workers, "the worker to be there")
        assert [it.pid for it in called(trusting).workers] == [worker.pid]
        assert called(f"rediss://localhost:{queue.port}/0") is None, "nobody has signed it"
        assert called(trusting.replace("localhost", "127.0.0.1")) is None, "it is another one's"
        assert called(f"rediss://127.0.0.1:{queue.port}/0?ssl_cert_reqs=none&ssl_check_hostname=false") is not None
    finally:
        queue.close()
