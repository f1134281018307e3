"""Git repositories: mirrors, and the commits between two releases."""
