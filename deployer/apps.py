"""The deployments floor as a Django app; the project package and the app are one."""

from importlib import import_module

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from deployer.queue.plain import take_pickle_away


class DeployerConfig(AppConfig):
    name = "deployer"
    verbose_name = _("Deployments")

    def ready(self) -> None:
        """Take pickle from the queue's library, and let Django know our checks."""
        take_pickle_away()
        import_module("deployer.checks")
