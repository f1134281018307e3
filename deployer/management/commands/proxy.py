"""`deployer proxy nginx|caddy`: the configuration of a web server that speaks https in front of the site."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.host.proxies import Front, caddy, nginx
from deployer.management.commandline import SpokenCommand, refused
from servers.validators import validate_host

_KINDS = {"nginx": nginx, "caddy": caddy}


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Print the configuration of a web server that speaks https in front of the site. Its name is that of "
        "DEPLOYER_URL, unless another one is given."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", choices=_KINDS, help=_("which web server"))
        parser.add_argument("--name", help=_("the name by which browsers reach the site"))
        parser.add_argument("--port", type=int, default=443, help=_("the port that it listens on"))
        parser.add_argument("--certificate", default="", metavar="FILE", help=_("its certificate, with the chain"))
        parser.add_argument("--key", default="", metavar="FILE", help=_("the certificate's key"))

    def handle(self, *_args: Any, kind: str, name: str | None, port: int, **options: Any) -> None:
        name = name or urlsplit(settings.DEPLOYER_URL).hostname
        if not name:
            raise refused(_("Give the name of the site: --name deploy.example.com, or DEPLOYER_URL."))
        try:
            validate_host(name)
        except ValidationError as error:
            raise refused("; ".join(error.messages)) from error
        if bool(options["certificate"]) != bool(options["key"]):
            raise refused(_("--certificate and --key belong together."))
        if not 0 < port < 65536 or any(set("\n\r\0") & set(options[part]) for part in ("certificate", "key")):
            raise refused(_("A port is a number up to 65535, and a path has no line breaks."))
        host, own = settings.DEPLOYER_BIND
        bind = f"{'127.0.0.1' if host in {'0.0.0.0', '[::]'} else host}:{own}"  # noqa: S104 (compared, not bound)
        self.stdout.write(_KINDS[kind](Front(name, port, bind, options["certificate"], options["key"])), ending="")
