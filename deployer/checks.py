"""What `deployer check --deploy` says about the settings; what concerns the queue is said at each start, too."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

from deployer.host.addresses import is_loopback, queue_weaknesses
from people.sinks import problems

#: What is checked at each command that acts, too.
RECORD = "record"


@register(Tags.security, deploy=True)
def queue_is_closed(**_options: Any) -> list[CheckMessage]:
    """The way to the queue: whoever can write to it can stop and start deployments."""
    return [
        Warning(weakness, id=f"deployer.W00{number}")
        for number, weakness in queue_weaknesses(settings.REDIS_URL).items()
    ]


@register(Tags.security, deploy=True)
def hosts_are_named(**_options: Any) -> list[CheckMessage]:
    """The names by which the site is reached."""
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    return [
        Warning(
            "DEPLOYER_ALLOWED_HOSTS lets every name in: the site can be reached under a name of somebody else.",
            hint="List the names by which browsers reach it.",
            id="deployer.W003",
        )
    ]


@register(Tags.security, deploy=True)
def passwords_are_not_sent_in_clear(**_options: Any) -> list[CheckMessage]:
    """The way from the browser to the site."""
    host = settings.DEPLOYER_BIND[0]
    if settings.DEPLOYER_HTTPS or is_loopback(host):
        return []
    return [
        Warning(
            f"DEPLOYER_BIND is {host}, which others reach, and DEPLOYER_HTTPS is no: passwords and API tokens pass in "
            "clear text.",
            hint="Put a proxy that speaks https in front, and set DEPLOYER_HTTPS=yes.",
            id="deployer.W004",
        )
    ]


@register(RECORD)
def record_can_be_written(**_options: Any) -> list[CheckMessage]:
    """The file and the syslog that entries of the record go to, too."""
    return [
        Warning(
            problem,
            hint="The entries are in the database: export them from the page of the record.",
            id="deployer.W005",
        )
        for problem in problems()
    ]
