"""The figures as Prometheus reads them, with those of the web processes of this machine."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.utils import timezone
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from deployer import __version__
from deployer.host.kinds import QUEUES, Kind
from deployer.queue.rollcall import RollCall, roll_call
from deployer.watching.figures import Figures, figures
from deployer.watching.finding import Level
from deployer.watching.running import findings

#: Seconds up to which answers are counted together.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ANSWERS = Histogram(
    "deployer_answer_seconds",
    "Seconds until a request was answered, by what was asked for.",
    ["kind"],
    buckets=_BUCKETS,
)


def observe(kind: str, seconds: float) -> None:
    """Count an answer: a ``kind`` of few (page, poll, api, hook)."""
    _ANSWERS.labels(kind).observe(seconds)


def forget_the_dead() -> None:
    """Delete what web processes that are gone have counted on this machine."""
    for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            file.unlink(missing_ok=True)


def exposition() -> bytes:
    """All figures, in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Installation())
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


class _Installation(Collector):
    """What the database and the queue tell: the same whichever process is asked."""

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("deployer", "The version that answers.", {"version": __version__})
        yield _gauge(
            "deployer_findings",
            "Things that are not as they should be, as /health/status names them.",
            ["level"],
            ((level.value, sum(it.level is level for it in findings())) for level in Level),
        )
        yield from _of_deployments(now := figures())
        yield from _of_queue(roll_call())
        yield from _of_servers(now)
        yield from _of_room(now)


def _of_deployments(now: Figures) -> Iterator[Metric]:
    yield _gauge("deployer_deployments_active", "Deployments that have not ended.", ["status"], now.active.items())
    count = CounterMetricFamily("deployer_deployments", "Deployments that have ended.", labels=["type", "status"])
    took = CounterMetricFamily(
        "deployer_deployments_seconds", "Seconds that deployments took from their start.", labels=["type", "status"]
    )
    for it in now.ended:
        count.add_metric([it.type, it.status], it.count)
        took.add_metric([it.type, it.status], it.seconds)
    yield from (count, took)
    waits = (timezone.now() - now.oldest_pending).total_seconds() if now.oldest_pending else 0.0
    yield GaugeMetricFamily(
        "deployer_queue_wait_seconds", "Seconds since the oldest deployment without a worker was launched.", waits
    )
    yield CounterMetricFamily("deployer_log_rows", "Log lines that were ever written.", now.log_rows)
    yield GaugeMetricFamily("deployer_notices_due", "Notices that are to be sent.", now.notices_due)


def _of_queue(called: RollCall | None) -> Iterator[Metric]:
    yield GaugeMetricFamily("deployer_queue_up", "Whether the queue server answers.", int(called is not None))
    if called is None:
        return
    yield _gauge("deployer_queue_jobs", "Jobs that wait.", ["queue"], ((name, called.jobs[name]) for name in QUEUES))
    workers = GaugeMetricFamily("deployer_workers", "Workers with a late sign of life.", labels=["kind", "state"])
    for kind in Kind:
        alive = called.alive(kind)
        busy = sum(bool(it.job) for it in alive)
        workers.add_metric([kind.value, "busy"], busy)
        workers.add_metric([kind.value, "idle"], len(alive) - busy)
    yield workers
    signs = [(timezone.now() - it.beat).total_seconds() for it in called.workers if it.beat is not None]
    yield GaugeMetricFamily(
        "deployer_worker_sign_age_seconds",
        "Seconds since the last sign of life of the worker that is silent longest.",
        max(signs, default=0.0),
    )


def _of_servers(now: Figures) -> Iterator[Metric]:
    yield _gauge(
        "deployer_servers", "Active servers, by what the last try to reach them found.", ["state"], now.servers.items()
    )
    yield GaugeMetricFamily("deployer_standings", "Projects on servers.", now.standings)
    yield GaugeMetricFamily(
        "deployer_standings_differing",
        "Projects on servers that run something else than was left there.",
        now.differing,
    )


def _of_room(now: Figures) -> Iterator[Metric]:
    yield GaugeMetricFamily("deployer_database_bytes", "The size of the database.", now.room.database)
    yield GaugeMetricFamily("deployer_store_bytes", "The size of the stored releases.", now.room.store)
    yield GaugeMetricFamily("deployer_disk_bytes", "The disk of the data folder.", now.room.disk)
    yield GaugeMetricFamily("deployer_disk_free_bytes", "What is free of it.", now.room.free)


def _gauge(name: str, about: str, labels: list[str], rows: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, about, labels=labels)
    for value, number in rows:
        family.add_metric([value], number)
    return family
