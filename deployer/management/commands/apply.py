"""``deployer apply FILE...``: create or update what YAML files declare."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.declaring.reading import DeclarationError, DeclarationFile, printable
from deployer.declaring.writing import RowChange, apply
from deployer.host.addresses import site_address
from deployer.management.commandline import ActingCommand, refused


class Command(ActingCommand):
    summary = gettext_lazy(
        "Create or update the credentials, servers, groups, projects and whatever else YAML files declare. If "
        "anything in the files is wrong, nothing is applied."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help=_("a YAML file; - reads standard input"))
        parser.add_argument(
            "--bind",
            action="store_true",
            help=_("let credentials that the files only name be sent to new hosts, and add those to their hosts"),
        )
        parser.add_argument("--dry-run", action="store_true", help=_("print the difference and write nothing"))
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        files = [_file(name) for name in options["files"]]
        try:
            changes = apply(files, dry_run=options["dry_run"], may_bind=options["bind"], acting=self.acting)
        except DeclarationError as error:
            raise refused("\n".join([*error.mistakes, _("Nothing was applied.")])) from error
        for change in changes:
            self.stdout.write(str(change))
        for webhook in (each for change in changes for each in change.webhooks if not options["dry_run"]):
            words = {"webhook": printable(str(webhook)), "project": printable(str(webhook.project))}
            words["address"] = site_address(webhook.get_absolute_url())
            told = _(
                "Webhook “%(webhook)s” of “%(project)s”: where it is sent to is on its page, and “Make a new "
                "secret” there shows its secret, once: %(address)s"
            )
            self.stdout.write(told % words)
        self.stdout.write(_summary(changes, dry_run=options["dry_run"]))


def _file(name: str) -> DeclarationFile:
    if name == "-":
        return DeclarationFile(_("standard input"), sys.stdin.buffer.read(), Path.cwd())
    path = Path(name)
    try:
        return DeclarationFile(printable(name), path.read_bytes(), path.parent)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise refused(_("%(file)s cannot be read: %(why)s.") % {"file": printable(name), "why": why}) from error


def _summary(changes: list[RowChange], *, dry_run: bool) -> str:
    if not changes:
        return _("Nothing to change.")
    created = sum(change.created for change in changes)
    numbers = {"created": created, "changed": len(changes) - created}
    if dry_run:
        return _("%(created)s to create, %(changed)s to change; nothing was written.") % numbers
    return _("Applied: %(created)s created, %(changed)s changed.") % numbers
