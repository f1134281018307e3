"""What every release leaves behind, and that the code of today still reads it.

A folder per release, named by its version, holds what a data folder of that release holds: ``database.sql``, the two
keys (made for these tests, they open nothing else) and the archives of its releases. ``python -m tests.upgrade.make``
makes the one of a release, when that release is made.

From a release on, a migration is never edited, renamed or removed: databases everywhere have recorded it, and nobody
runs it a second time. What is to be different is a new migration. ``released.sha256`` lists the migrations of all
releases so far, and `test_upgrade` fails when one of them has changed.
"""
