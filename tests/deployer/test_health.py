"""What monitors are told: by any name, without a login, and nothing that a stranger must not know."""

import json
import logging
import os
import re
import signal
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from logging.config import DictConfigurator
from pathlib import Path

import pytest
from django.conf import settings
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone, translation
from prometheus_client.parser import text_string_to_metric_families

from deployer import ids
from deployer.models import Deployment, EncryptionKey, Standing
from deployer.settings import LOGGING, networks
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.queue import QueueServer
from tests.parts.up import Up

TOKEN = "a-token-that-is-long-enough-to-be-one"
BOARD = Path(settings.BASE_DIR) / "docs" / "grafana.json"

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def stranger(settings) -> Client:
    """A monitor: it calls the site by a name that browsers may not use, and by plain http."""
    settings.ALLOWED_HOSTS = ["deploy.example.com"]
    settings.SECURE_SSL_REDIRECT = True
    return Client(headers={"host": "10.0.0.7:8000"})


def test_a_monitor_needs_neither_the_name_of_the_site_nor_https(stranger: Client) -> None:
    assert stranger.get("/login/").status_code in {301, 400}
    assert stranger.get("/health/live").content == b"ok\n"
    assert stranger.head("/health/live").status_code == 200
    ready = stranger.get("/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "findings": []})
    assert ready.headers["Cache-Control"] == "no-store"
    assert stranger.post("/health/ready").status_code == 405


def test_a_database_in_another_form_takes_a_process_out_of_the_balancer(stranger: Client) -> None:
    newest = MigrationRecorder.Migration.objects.filter(app="people").order_by("name").reverse()[:1].get()
    newest.delete()
    answer = stranger.get("/health/ready")
    assert answer.status_code == 503
    assert [it["subject"] for it in answer.json()["findings"]] == ["migrations"]
    assert stranger.get("/health/status").status_code == 200


def test_a_database_that_was_migrated_under_it_does_not(stranger: Client, queue_server: QueueServer) -> None:
    MigrationRecorder.Migration.objects.create(app="people", name="9999_later")
    assert stranger.get("/health/ready").status_code == 200, "it answers until the newer one takes its place"
    assert "migrations" in {it["subject"] for it in stranger.get("/health/status").json()["findings"]}


def test_a_missing_key_takes_it_out_too(stranger: Client) -> None:
    EncryptionKey.objects.create(fingerprint="0123456789abcdef", canary="nothing that opens")
    answer = stranger.get("/health/ready")
    assert (answer.status_code, answer.json()["findings"][0]["subject"]) == (503, "keys")


def test_a_queue_that_is_away_is_a_finding_and_takes_nothing_out(stranger: Client, queue_server: QueueServer) -> None:
    queue_server.stop()
    assert stranger.get("/health/ready").status_code == 200
    answer = stranger.get("/health/status")
    assert answer.status_code == 200
    assert answer.json()["status"] == "findings"
    assert {"subject": "queue", "level": "error"}.items() <= answer.json()["findings"][0].items()


def test_strangers_learn_no_path_no_address_and_no_name(stranger: Client, queue_server, settings) -> None:
    settings.DEPLOYER_KEEP_FREE_MB = 10**9
    told = stranger.get("/health/status").content.decode()
    assert {"disk", "workers"} <= {it["subject"] for it in json.loads(told)["findings"]}
    assert str(settings.DATA_DIR) not in told
    assert set(json.loads(told)["findings"][0]) == {"subject", "level", "what"}


def test_they_are_told_in_the_language_of_the_site(stranger: Client, queue_server, settings) -> None:
    settings.LANGUAGE_CODE = "zh-hans"
    with translation.override("en"):
        told = stranger.get("/health/status", headers={"accept-language": "en"}).json()["findings"]
    assert "没有工作进程领取部署：发起的部署会等待。" in [it["what"] for it in told]


def test_who_asks_in_another_language_is_told_in_that_one(client: Client, queue_server, settings) -> None:
    settings.CACHES = settings.CACHES | {"process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    client.force_login(make_user(is_superuser=True))
    assert "No worker takes deployments" in client.get("/system/", headers={"accept-language": "en"}).content.decode()
    assert "没有工作进程领取部署" in client.get("/system/", headers={"accept-language": "zh-hans"}).content.decode()


# --- figures ---------------------------------------------------------------------------------------


def figures(client: Client, **headers: str) -> dict[str, float]:
    """The samples of /metrics, each under its name with its labels."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.content.decode())
    return {
        sample.name + "".join(f",{name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_nobody_finds_the_figures_who_is_not_let_in(stranger: Client, settings) -> None:
    assert stranger.get("/metrics").status_code == 404
    settings.DEPLOYER_METRICS_TOKEN = TOKEN
    for given in ("", "Bearer", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer é"):
        assert stranger.get("/metrics", headers={"authorization": given}).status_code == 404
    assert figures(stranger, authorization=f"Bearer {TOKEN}")["deployer_queue_up"] in {0.0, 1.0}


def test_a_network_is_let_in_by_the_address_that_the_proxy_saw(stranger: Client, settings) -> None:
    settings.DEPLOYER_METRICS_NETWORKS = networks("DEPLOYER_METRICS_NETWORKS", "10.0.5.0/24")
    settings.DEPLOYER_TRUSTED_PROXIES = networks("DEPLOYER_TRUSTED_PROXIES", "127.0.0.1")
    assert stranger.get("/metrics").status_code == 404
    assert stranger.get("/metrics", headers={"x-forwarded-for": "10.0.5.9"}).status_code == 200
    assert stranger.get("/metrics", headers={"x-forwarded-for": "10.0.5.9, 192.0.2.1"}).status_code == 404


def test_the_figures_are_those_of_the_database_and_the_queue(client: Client, queue_server, settings) -> None:
    settings.DEPLOYER_METRICS_TOKEN = TOKEN
    project, server = make_project(), make_server()
    group = make_group(server)
    for status in ("success", "success", "failed"):
        begun = timezone.now() - timedelta(seconds=30)
        it = make_deployment(project, group)
        moments = {"started_at": begun, "finished_at": begun + timedelta(seconds=20)}
        Deployment.objects.filter(pk=it.pk).update(status=status, **moments)
    make_deployment(project, group)
    Standing.objects.create(project=project, server=server, differs=True, renewed_at=timezone.now())
    queue_server.client.hset(
        "rq:worker:w1",
        mapping={"queues": "hooks,default", "state": "busy", "hostname": "a", "pid": "7"}
        | {"birth": timezone.now().isoformat(), "last_heartbeat": timezone.now().isoformat()},
    )
    queue_server.client.sadd("rq:worker:w1:executions", "deployment-4:0123abcd")
    queue_server.client.sadd("rq:workers", "rq:worker:w1")
    found = figures(client, authorization=f"Bearer {TOKEN}")
    assert found["deployer_deployments_total,status=success,type=full"] == 2
    assert found["deployer_deployments_seconds_total,status=success,type=full"] == pytest.approx(40, abs=0.001)
    assert found["deployer_deployments_active,status=pending"] == 1
    assert 0 <= found["deployer_queue_wait_seconds"] < 60
    assert found["deployer_standings_differing"] == found["deployer_standings"] == 1
    assert found["deployer_servers,state=untested"] == 1
    assert found["deployer_workers,kind=deploy,state=busy"] == 1
    assert found["deployer_workers,kind=look,state=idle"] == 0
    assert found["deployer_database_bytes"] > 0
    assert found["deployer_disk_bytes"] > found["deployer_disk_free_bytes"] > 0


def test_answers_are_counted_by_what_was_asked_for(client: Client, queue_server, settings) -> None:
    settings.DEPLOYER_METRICS_TOKEN = TOKEN
    client.force_login(make_user(is_superuser=True))
    before = figures(client, authorization=f"Bearer {TOKEN}")
    client.get("/activity/")
    client.get("/system/")
    client.get("/api/v1/projects?wait=1")
    after = figures(client, authorization=f"Bearer {TOKEN}")

    def more(kind: str) -> float:
        name = f"deployer_answer_seconds_count,kind={kind}"
        return after.get(name, 0) - before.get(name, 0)

    assert (more("poll"), more("page"), more("api")) == (1, 1, 0)


def test_the_board_asks_for_figures_that_are_there(client: Client, queue_server, settings) -> None:
    settings.DEPLOYER_METRICS_TOKEN = TOKEN
    client.get("/login/")
    text = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).content.decode()
    known = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    known |= {f"{name}_{end}" for name in known for end in ("bucket", "count", "total")}
    asked = set(
        re.findall(r"deployer_\w+", json.dumps([panel["targets"] for panel in json.loads(BOARD.read_text())["panels"]]))
    )
    assert asked
    assert asked <= known


# --- logs ------------------------------------------------------------------------------------------


def test_a_request_keeps_the_id_of_its_proxy_and_no_hostile_one(client: Client) -> None:
    given = "7f3a-b2c9.e1:d4_x"
    assert client.get("/login/", headers={"x-request-id": given}).headers["X-Request-ID"] == given
    for hostile in ("short", "a" * 129, "eight\x1b[31mred", "<script>alert()", 'with "quotes" in it'):
        made = client.get("/login/", headers={"x-request-id": hostile}).headers["X-Request-ID"]
        assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert ids.request.get() == ""


def test_a_line_of_json_has_the_request_and_the_deployment() -> None:
    written = StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(DictConfigurator(LOGGING).configure_formatter({**LOGGING["formatters"]["json"]}))  # type: ignore[index]
    handler.addFilter(ids.Ids())
    log = logging.Logger("deployer.test")
    log.addHandler(handler)
    token = ids.request.set("a-request-id")
    ids.carry_out(42)
    try:
        log.warning("the link to %s\nwas lost", "wëb-1")
    finally:
        ids.carry_out(None)
        ids.request.reset(token)
    log.warning("later")
    first, second = map(json.loads, written.getvalue().splitlines())
    assert first["message"] == "the link to wëb-1\nwas lost"
    assert (first["level"], first["logger"]) == ("WARNING", "deployer.test")
    assert (first["request_id"], first["deployment"]) == ("a-request-id", 42)
    assert not {"request_id", "deployment"} & set(second)


def test_up_writes_nothing_but_lines_of_json(up: Callable[..., Up]) -> None:
    site = up("--workers", "1", DEPLOYER_LOG_FORMAT="json").wait_ready(1)
    assert site.get("/health/ready") == 200
    assert site.get("/health/status") == 200
    os.kill(site.process.pid, signal.SIGTERM)
    site.wait_ended()
    begin = site.log.index("{")  # what is printed before the programs start is for whoever starts it
    lines = [json.loads(line) for line in site.log[begin:].splitlines()]
    assert {"deployer", "worker-1"} <= {line["program"] for line in lines}
    assert all(line["message"] and line["timestamp"] for line in lines)


def test_the_page_shows_who_is_at_work_and_leads_to_what_they_do(client: Client, queue_server) -> None:
    client.force_login(make_user(is_superuser=True))
    it = make_deployment(make_project(), make_group(make_server()))
    now = timezone.now()
    for number, (job, beat) in enumerate([(f"deployment-{it.pk}-resume", now), ("", now - timedelta(hours=2))]):
        key = f"rq:worker:{number}"
        row = {"queues": "hooks,default", "state": "busy", "hostname": "<b>host</b>", "pid": "77"}
        queue_server.client.sadd(f"{key}:executions", f"{job}:0123abcd")
        queue_server.client.hset(key, mapping=row | {"birth": now.isoformat(), "last_heartbeat": beat.isoformat()})
        queue_server.client.sadd("rq:workers", key)
    page = client.get("/system/").content.decode()
    assert f'href="/deployments/{it.pk}/"' in page
    assert "<b>host</b>" not in page
    assert page.count("silent") == 1
    part = client.get("/system/", headers={"hx-request": "true"}).content.decode()
    assert "<html" not in part
    assert f"#{it.pk}" in part
