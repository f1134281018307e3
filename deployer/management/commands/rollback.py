"""``manage.py rollback ID``: launch the release that was live before a deployment, as the button does."""

from typing import Any

from django.utils.translation import gettext_lazy

from deployer.launching.again import launch_rollback
from deployer.management.commandline import LaunchAgain
from deployer.models import Deployment


class Command(LaunchAgain):
    summary = gettext_lazy("Launch the release that was live before a deployment: nothing is cloned or built.")

    def launch_from(self, earlier: Deployment, **chosen: Any) -> Deployment:
        return launch_rollback(earlier, **self.launcher, **chosen)
