"""The deployments floor as a Django app; the project package and the app are one."""

from django.apps import AppConfig
from django.db.models.signals import post_delete
from django.utils.translation import gettext_lazy as _


class DeployerConfig(AppConfig):
    name = "deployer"
    verbose_name = _("Deployments")

    def ready(self) -> None:
        """A project's caches go with it, however it is deleted."""
        from deployer.releases.caches import forget_project  # models are there from now on
        from projects.models import Project

        post_delete.connect(forget_project, sender=Project, dispatch_uid="caches")
