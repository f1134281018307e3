"""The product as it is handed out: a wheel and an archive of the source, made of what git knows of this tree."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]


def files_of_the_tree() -> set[str]:
    """The paths of this tree that git knows or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HOUSE,
        check=True,
        capture_output=True,
        text=True,
    )
    return {name for name in listed.stdout.split("\0") if name and (HOUSE / name).is_file()}


class Package:
    """The wheel and the archive of the source in ``folder``, built from a copy of the tree."""

    def __init__(self, folder: Path) -> None:
        tree = folder / "tree"
        for name in files_of_the_tree():
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((HOUSE / name).read_bytes())
        done = subprocess.run(
            [sys.executable, "-m", "build", "--outdir", folder / "dist", tree],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.wheel = next((folder / "dist").glob("*.whl"))
        self.source = next((folder / "dist").glob("*.tar.gz"))

    @property
    def names(self) -> set[str]:
        """The files in the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    @property
    def source_names(self) -> set[str]:
        """The files in the archive of the source, without its own folder."""
        with tarfile.open(self.source) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}
