"""A real git repository."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.parts.programs import program

IDENTITY = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


class GitRepository:
    """A repository at ``path`` with one commit on ``main``; ``url`` is its ``git_url``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = str(path)
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit({"index.html": "first\n"}, "First commit")

    def git(self, *arguments: str) -> str:
        """Run git in the repository; gives its output without the newline at the end."""
        command = [program("git", "git"), *arguments]
        done = subprocess.run(
            command, cwd=self.path, env=os.environ | IDENTITY, check=True, capture_output=True, text=True
        )
        return done.stdout.rstrip("\n")

    def commit(self, files: Mapping[str, str | bytes], message: str = "Another commit", *, mode: int = 0o644) -> str:
        """Write ``files`` (path to content) and commit them; gives the commit's hash."""
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            file.chmod(mode)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def branch(self, name: str) -> None:
        """Make a branch here and go on with it."""
        self.git("checkout", "--quiet", "-b", name)

    def switch(self, name: str) -> None:
        """Go to a branch that is there."""
        self.git("checkout", "--quiet", name)

    def tag(self, name: str) -> None:
        self.git("tag", name)
