"""The table of attacks: what a build, a package, a server, a stranger or a user tries, and what becomes of it."""
