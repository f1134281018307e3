"""`deployer`, and `deployer help`: the commands of deployer, a line each, without those of its libraries."""

from typing import Any

from django.core.management import get_commands, load_command_class
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.management.commandline import SpokenCommand

#: Those that bring the product up and keep it well; all others are about what it deploys.
_UPKEEP = (
    *("up", "web", "worker", "workers", "courier", "doctor", "migrate", "check", "rotate_keys", "prune", "reconcile"),
    *("units", "proxy", "createsuperuser", "changepassword", "forget_second_factor", "version", "demo"),
)
#: Libraries' commands that an operator needs, with what is said of them here.
_OF_LIBRARIES = {
    "check": gettext_lazy("Check the settings; with --deploy, also how safe they are."),
    "migrate": gettext_lazy("Bring the database to the form that this version needs."),
    "createsuperuser": gettext_lazy("Make a user who may do everything."),
    "changepassword": gettext_lazy("Give a user a new password."),
}
_HIDDEN = "overview"


class Command(SpokenCommand):
    summary = gettext_lazy("List the commands.")
    requires_system_checks = ()

    def handle(self, *_args: Any, **_options: Any) -> None:
        apps = get_commands()
        own = {name for name, app in apps.items() if app == "deployer" and name != _HIDDEN}
        listed = own | {name for name in _UPKEEP if name in apps}
        lines = {name: _line(name, apps[name]) for name in sorted(listed)}
        width = max(map(len, lines))
        self.stdout.write(_("Usage: deployer COMMAND …; deployer COMMAND --help says what it takes."))
        for title, names in (
            (_("Deployments, and what is deployed"), sorted(listed.difference(_UPKEEP))),
            (_("This installation"), [name for name in _UPKEEP if name in listed]),
        ):
            self.stdout.write(f"\n{title}")
            for name in names:
                self.stdout.write(f"  {name:<{width}}  {lines[name]}")


def _line(name: str, app: str) -> str:
    """The first sentence about a command."""
    if name in _OF_LIBRARIES:
        return str(_OF_LIBRARIES[name])
    command = load_command_class(app, name)
    said = str(getattr(command, "summary", "") or command.help)
    end = min((place for mark in (". ", "。", ": ", "：") if (place := said.find(mark)) > 0), default=len(said))
    return said[:end].rstrip(".")
