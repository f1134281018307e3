"""``deployer retry ID``: launch the same again for the servers that did not succeed, as the button does."""

from typing import Any

from django.utils.translation import gettext_lazy

from deployer.launching.again import retry_failed
from deployer.management.commandline import LaunchAgain
from deployer.models import Deployment


class Command(LaunchAgain):
    summary = gettext_lazy(
        "Launch a deployment again, for the servers that did not succeed: the same type, the same commit or release."
    )

    def launch_from(self, earlier: Deployment, **chosen: Any) -> Deployment:
        return retry_failed(earlier, **self.launcher, **chosen)
