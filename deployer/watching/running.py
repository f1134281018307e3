"""Whether the parts that run deployments are there and do their work: queue, workers, courier, store, disk."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from datetime import timedelta

from django.conf import settings
from django.core.cache import caches
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from deployer.host.kinds import Kind
from deployer.models import Deployment, Notice
from deployer.queue.rollcall import RollCall, roll_call
from deployer.releases import archives
from deployer.releases.room import has_room
from deployer.releases.store import need_store
from deployer.watching.finding import Finding, Level, error, warning
from deployer.watching.ready import answered, not_ready
from people.sinks import problems
from servers.sentences import sentences

#: Seconds for which an answer holds: strangers ask as often as they like.
HOLDS = 10
#: A deployment that nobody has taken for so long is told of, and so is a notice.
LATE, LATE_NOTICE = timedelta(minutes=15), timedelta(minutes=3)
#: Seconds that the store has to answer.
STORE_ANSWERS = 5.0
#: The share of the disk below which what is free is called little.
LITTLE = 0.1

_asking = ThreadPoolExecutor(1, thread_name_prefix="store")


def findings() -> list[Finding]:
    """Everything that is not as it should be in what runs, asked at most every `HOLDS` seconds in this process.

    Its sentences are in the language of whoever asks: each language has answers of its own.
    """
    key = f"findings-{get_language()}"
    known: list[Finding] | None = caches["process"].get(key)
    if known is None:
        known = look()
        caches["process"].set(key, known, HOLDS)
    return known


def look() -> list[Finding]:
    """The same, asked now."""
    found, called = not_ready(), roll_call()
    rows = [] if found else [*answered(_waiting), *answered(_notices)]
    found += [*of_workers(called), *rows, *_store(), *_disk(), *_record()]
    return sorted(found, key=lambda it: it.level is not Level.ERROR)


def of_workers(called: RollCall | None) -> Iterator[Finding]:
    """What is not as it should be with the queue and those that take jobs from it; None: it does not answer."""
    if called is None:
        yield error(
            "queue",
            _("The queue server does not answer: launches wait, and nothing is lost."),
            "",
            _("See that the server of REDIS_URL runs; the embedded one runs below “deployer up”."),
        )
        return
    lost = [it for it in called.workers if not it.is_alive and it.job]
    for it in lost:
        yield warning(
            "workers",
            _("A worker that was at work has shown no sign of life lately."),
            _("%(name)s on %(machine)s, at %(job)s.") % {"name": it.name, "machine": it.machine or "?", "job": it.job},
            _("Other workers take over what it had after half a minute; see why it stopped."),
        )
    if not called.alive(Kind.DEPLOY):
        yield error(
            "workers",
            _("No worker takes deployments: launches wait."),
            _last_sign(called, Kind.DEPLOY),
            _remedy(Kind.DEPLOY, _("Start “deployer up”, or “deployer worker”.")),
        )
    for kind, what in (
        (Kind.BUILD, _("No worker takes builds: a worker that deploys builds, too.")),
        (Kind.LOOK, _("No worker looks at the servers: a worker that deploys does that between deployments.")),
        (Kind.FOLLOW, _("No worker follows logs of applications: their pages wait.")),
    ):
        if not called.alive(kind):
            remedy = _remedy(kind, _("Start “deployer worker %s”.") % kind.value)
            yield warning(f"workers-{kind}", what, _last_sign(called, kind), remedy)


def _remedy(kind: Kind, start: str) -> str:
    """What to start, and where: not here where the workers of this machine are to take something else."""
    if kind in settings.DEPLOYER_QUEUES:
        return start
    return sentences(start, _("Those of this machine take something else: DEPLOYER_QUEUES does not name “%s”.") % kind)


def _last_sign(called: RollCall, kind: Kind) -> str:
    beats = [it.beat for it in called.workers if kind in it.kinds and it.beat is not None]
    if not beats:
        return _("The queue knows none.")
    return _("The last sign of one is %s old.") % timesince(max(beats), timezone.now(), depth=1)


def _waiting() -> Iterator[Finding]:
    late = Deployment.objects.at_work().filter(
        status=Deployment.Status.PENDING, claim="", created_at__lt=timezone.now() - LATE
    )
    if count := late.count():
        yield warning(
            "waiting",
            ngettext(
                "%(count)d deployment, launched more than %(minutes)d minutes ago, waits for a worker.",
                "%(count)d deployments, launched more than %(minutes)d minutes ago, wait for a worker.",
                count,
            )
            % {"count": count, "minutes": LATE.total_seconds() // 60},
            "",
            _("Start more workers (DEPLOYER_WORKERS), or see what those that there are do."),
        )


def _notices() -> Iterator[Finding]:
    if Notice.objects.untried_since(timezone.now() - LATE_NOTICE).exists():
        yield error(
            "courier",
            _("Notices wait to be sent, and nobody sends them."),
            "",
            _("Start “deployer courier”; “deployer up” runs one."),
        )


def _store() -> Iterator[Finding]:
    asked = _asking.submit(need_store)
    try:
        asked.result(STORE_ANSWERS)
    except LateError:
        yield error(
            "store",
            _("The store of releases does not answer: full deployments fail, restarts do not."),
            _("Nothing came within %d seconds.") % STORE_ANSWERS,
            _("See that the address in DEPLOYER_STORAGE can be reached."),
        )
    except archives.StoreError as why:
        yield error(
            "store",
            _("The store of releases does not answer: full deployments fail, restarts do not."),
            why.why,
            why.remedy,
        )


def _disk() -> Iterator[Finding]:
    disk = shutil.disk_usage(settings.DATA_DIR)
    needed = settings.DEPLOYER_KEEP_FREE_MB * 1_000_000
    why = _("%(free)s of %(total)s are free where %(folder)s lies.") % {
        "free": filesizeformat(disk.free),
        "total": filesizeformat(disk.total),
        "folder": settings.DATA_DIR,
    }
    remedy = _("Free space there: “deployer prune” deletes old releases. Or lower DEPLOYER_KEEP_FREE_MB.")
    if not has_room(0):
        yield error("disk", _("The disk of the data folder is full: builds and packages are refused."), why, remedy)
    elif disk.free < min(2 * needed, disk.total * LITTLE):
        yield warning("disk", _("The disk of the data folder is nearly full."), why, remedy)


def _record() -> Iterator[Finding]:
    for problem in problems():
        yield warning(
            "record",
            _("Entries of the record are not written where they should be, too."),
            problem,
            _("The entries are in the database: export them from the page of the record."),
        )
