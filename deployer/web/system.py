"""The page of the installation itself: what is wrong with it, who works for it, how much room it takes."""

from django.conf import settings
from django.db import connection
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from deployer.keyring import fingerprint
from deployer.queue.rollcall import roll_call
from deployer.upkeep.made import last_made_at
from deployer.watching.figures import figures
from deployer.watching.running import findings
from people.access import Request, members_only
from people.rights import insist
from people.roles import EVERYWHERE, Action


@require_safe
@members_only
def system_page(request: Request) -> HttpResponse:
    """All of it, or for htmx the part that changes; for whoever administers everything."""
    insist(request.user, Action.ADMINISTER, EVERYWHERE)
    called = roll_call()
    context = {
        "findings": findings(),
        "called": called,
        "now": figures(),
        "database": {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[connection.vendor],
        "keys": [fingerprint(key) for key in settings.DEPLOYER_ENCRYPTION_KEYS],
        "is_embedded": settings.QUEUE_IS_EMBEDDED,
        "folder": settings.DATA_DIR,
        "has_object_store": settings.STORAGES["default"]["BACKEND"].endswith("S3Storage"),
        "addresses": _addresses(request),
        "backed_up": last_made_at(),
    }
    return render(request, "deployer/_system.html" if request.htmx else "deployer/system.html", context)


def _addresses(request: Request) -> list[tuple[str, str, str]]:
    """What monitors ask: a name, the address, and what its answer is for."""
    closed = not (settings.DEPLOYER_METRICS_TOKEN or settings.DEPLOYER_METRICS_NETWORKS)
    return [
        (_("Alive"), request.build_absolute_uri("/health/live"), _("200 while the process answers.")),
        (
            _("Ready"),
            request.build_absolute_uri("/health/ready"),
            _("503 where database, migrations or key are not there: a balancer takes the process out."),
        ),
        (_("Findings"), request.build_absolute_uri("/health/status"), _("Always 200, with what is wrong: for alarms.")),
        (
            _("Figures"),
            request.build_absolute_uri("/metrics"),
            _("Closed: set DEPLOYER_METRICS_TOKEN, or DEPLOYER_METRICS_NETWORKS.") if closed else _("For Prometheus."),
        ),
    ]
