"""The WSGI entry point that the web server of `deployer.serving` serves."""

import os

from django.core.wsgi import get_wsgi_application

from deployer.database import insist, refuse_unknown_migrations
from deployer.host.processes import hide_memory

os.umask(0o077)  # what is written is nobody else's to read
hide_memory()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")

application = get_wsgi_application()

from deployer.keyring import prepare_keys  # noqa: E402 (it needs the models)

for look in (refuse_unknown_migrations, prepare_keys):
    insist(look)  # a database that is away for a moment is waited for
