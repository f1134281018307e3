"""`deployer courier`: sends notices, until it is stopped."""

import signal
import threading
from typing import Any

from django.utils.translation import gettext_lazy

from deployer.database import insist, refuse_missing_migrations, refuse_unknown_migrations
from deployer.host.processes import hide_memory
from deployer.keyring import refuse_missing_keys
from deployer.management.commandline import SpokenCommand
from deployer.notices.courier import Courier


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Send notices from the outbox until Ctrl-C. `up` runs one; beside workers on other machines, run one yourself."
    )
    requires_system_checks = ()

    def handle(self, *_args: Any, **_options: Any) -> None:
        hide_memory()
        for look in (refuse_unknown_migrations, refuse_missing_migrations, refuse_missing_keys):
            insist(look)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_ignored: stop.set())
        Courier().run(stop)
