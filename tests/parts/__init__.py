"""The real parts that tests start: an SSH server, a queue server, a PostgreSQL server, git repositories, workers."""
