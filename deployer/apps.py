"""The deployments floor as a Django app; the project package and the app are one."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DeployerConfig(AppConfig):
    name = "deployer"
    verbose_name = _("Deployments")
