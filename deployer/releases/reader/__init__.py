"""Reads archives that may be hostile, in a process of its own: ``python -m deployer.releases.reader``.

It has limits of memory and time, no settings, no database and none of the platform's secrets, and loads nothing of
Django. Everything is bounded before it is read. `deployer.releases.reading` starts it and says its refusals in words.
"""
