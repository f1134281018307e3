"""The WSGI entry point that the web server of `deployer.serving` serves."""

import os

from django.core.wsgi import get_wsgi_application

from deployer.database import insist, refuse_unknown_migrations
from deployer.host.processes import hide_memory

hide_memory()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")

application = get_wsgi_application()
insist(refuse_unknown_migrations)  # a database that is away for a moment is waited for
