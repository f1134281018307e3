"""The deployments floor as a Django app; the project package and the app are one."""

import gc
from importlib import import_module

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_delete
from django.utils.translation import gettext_lazy as _

from deployer.database import close_failed_cursors
from deployer.queue.plain import take_pickle_away

#: New objects until Python looks for garbage among them, and such looks until it looks through older ones.
GARBAGE = (20_000, 10, 10)


class DeployerConfig(AppConfig):
    name = "deployer"
    verbose_name = _("Deployments")

    def ready(self) -> None:
        """Have notices written and failed statements closed, take pickle from the queue's library."""
        from deployer.notices.outbox import listen
        from deployer.releases.caches import forget_project  # models are there from now on
        from projects.models import Project

        listen()
        connection_created.connect(close_failed_cursors, dispatch_uid="failed cursors")
        take_pickle_away()
        import_module("deployer.checks")
        post_delete.connect(forget_project, sender=Project, dispatch_uid="caches")
        gc.freeze()  # what is loaded by now is never garbage: it was looked through again and again
        gc.set_threshold(*GARBAGE)
