"""The configuration of gunicorn, which reads it before it forks the processes that serve pages."""

from deployer.host.processes import hide_memory

hide_memory()
