"""The courier as a process of its own: killed in the middle, stopped in order, two side by side."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from deployer.models import Event, Notice
from tests.notices.making import make_channel, notice
from tests.parts.programs import stop_process, wait_until
from tests.parts.sink import Reply, Sink
from tests.parts.worker import MANAGE, process_environment

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def couriers() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Those that a test has started."""
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for process in found:
        stop_process(process)


def start(couriers: list["subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
    log = Path(settings.DATA_DIR) / f"courier-{os.urandom(8).hex()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*MANAGE, "courier"],
            env=process_environment() | {"DEPLOYER_NOTICE_NETWORKS": "127.0.0.0/8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    couriers.append(process)
    return process


def is_settled(*rows: Notice) -> bool:
    return not Notice.objects.filter(pk__in=[row.pk for row in rows], status__in=["waiting", "sending"]).exists()


def test_a_killed_courier_leaves_a_notice_unknown_and_the_next_sends_it_once_more(
    sink: Sink, couriers: list["subprocess.Popen[bytes]"]
) -> None:
    go = threading.Event()
    sink.reply = lambda _sent: Reply(hold=go)
    bad = notice(make_channel(sink, "webhook"), Event.FAILED, now=timezone.now())
    good = notice(make_channel(sink, "webhook"), Event.SUCCEEDED, now=timezone.now())
    first = start(couriers)
    wait_until(lambda: len(sink.sent) == 2, "both requests")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert {*Notice.objects.values_list("status", flat=True)} == {"sending"}
    go.set()
    sink.reply = lambda _sent: Reply()
    # The time that must pass until it is sure that nobody sends any more, and then until the next try.
    Notice.objects.update(claimed_at=timezone.now() - Notice.LONGEST - timedelta(seconds=1))
    start(couriers)
    wait_until(lambda: Notice.objects.filter(status="unknown").count() == 2, "both to be unknown")
    Notice.objects.exclude(next_at=None).update(next_at=timezone.now())
    wait_until(lambda: is_settled(bad, good) and Notice.objects.filter(status="sent").exists(), "the second try")
    bad.refresh_from_db()
    good.refresh_from_db()
    assert [bad.status, good.status] == ["sent", "unknown"]
    numbers = [sent.json["id"] for sent in sink.sent]
    assert numbers.count(bad.message_id) == 2
    assert numbers.count(good.message_id) == 1


def test_a_courier_that_is_asked_to_stop_finishes_what_it_has_begun(
    sink: Sink, couriers: list["subprocess.Popen[bytes]"]
) -> None:
    go = threading.Event()
    sink.reply = lambda _sent: Reply(hold=go)
    row = notice(make_channel(sink), now=timezone.now())
    process = start(couriers)
    wait_until(lambda: sink.sent, "the request")
    process.send_signal(signal.SIGTERM)
    go.set()
    assert process.wait(60) == 0
    row.refresh_from_db()
    assert row.status == "sent"


def test_two_couriers_send_each_notice_once(sink: Sink, couriers: list["subprocess.Popen[bytes]"]) -> None:
    channels = [make_channel(sink, "webhook") for _number in range(6)]
    rows = [notice(channel, now=timezone.now()) for channel in channels for _number in range(6)]
    for _courier in range(2):
        start(couriers)
    wait_until(lambda: is_settled(*rows), "all to be sent")
    numbers = [sent.json["id"] for sent in sink.sent]
    assert len(numbers) == len({*numbers}) == len(rows)


def test_the_site_and_the_workers_load_no_library_for_sending() -> None:
    told = subprocess.run(
        [*MANAGE, "shell", "-c", "import sys, deployer.urls, deployer.queue.jobs; print('apprise' in sys.modules)"],
        env=process_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip().splitlines()[-1] == "False"
