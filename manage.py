#!/usr/bin/env python
"""The command line of deployer: `python manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    """Run one management command; a wrong setting ends it with a sentence, not a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"deployer: {error}")


if __name__ == "__main__":
    main()
