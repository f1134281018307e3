"""What is written for people is true: commands, settings, links and names in the papers are those of the code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A Python as a bare machine has it: nothing is installed for it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    return tmp_path / "bare" / "bin" / "python3"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The product in a folder of its own, without an environment beside manage.py."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in HOUSE.iterdir():
        if not path.name.startswith(".") and path.name not in {"manage.py", "data"}:
            (folder / path.name).symlink_to(path)
    shutil.copy(HOUSE / "manage.py", folder)
    return folder


def _started(copy: Path, bare_python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the copy's manage.py by its name, where ``bare_python`` is the machine's python3."""
    environment = {
        "PATH": f"{bare_python.parent}:/usr/bin:/bin",
        "HOME": str(copy),
        "LANG": "C.UTF-8",
        "DEPLOYER_DATA_DIR": str(copy / "data"),
    }
    command = [copy / "manage.py", *arguments]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False)


def test_manage_py_is_run_by_the_environment_beside_it(copy: Path, bare_python: Path) -> None:
    (copy / ".venv").symlink_to(sys.prefix)
    help_text = _started(copy, bare_python, "deploy", "--help")
    assert (help_text.returncode, help_text.stderr) == (0, "")
    assert help_text.stdout.startswith("usage: manage.py deploy")
    refused = _started(copy, bare_python, "deploy", "--branch")
    assert refused.returncode == 2, "the exit status is that of the command"


@pytest.mark.parametrize("environment", ["missing", "broken", "empty"])
def test_manage_py_says_what_to_run_where_the_requirements_are_not_installed(
    copy: Path, bare_python: Path, environment: str
) -> None:
    if environment == "broken":
        (copy / ".venv" / "bin").mkdir(parents=True)
        (copy / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    elif environment == "empty":
        shutil.copytree(bare_python.parent.parent, copy / ".venv", symlinks=True)
    answer = _started(copy, bare_python, "deploy", "shop")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == (
        f"deployer's requirements are not installed: run “make .venv/.run” in {copy}, "
        "or “make run”, which starts deployer too.\n"
    )


def test_manage_py_can_be_started_by_its_name() -> None:
    assert os.access(HOUSE / "manage.py", os.X_OK)
