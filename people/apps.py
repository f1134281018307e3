"""The ground of the house as a Django app: who uses deployer."""

from importlib import import_module

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps
from django.utils.translation import gettext_lazy as _


class PeopleConfig(AppConfig):
    name = "people"
    verbose_name = _("People")

    def ready(self) -> None:
        """Sign-ins are noted from now on, whoever asks for one."""
        for module in ("people.sessions", "people.sign_in", "people.factors", "people.provider"):
            import_module(module)


class GuardedAdminConfig(admin_apps.AdminConfig):
    """Django's admin, with our answer to who gets in."""

    default = False
    default_site = "people.guarded_admin.GuardedSite"
