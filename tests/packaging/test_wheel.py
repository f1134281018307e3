"""The wheel: everything is in it, and what is installed from it runs without the tree that it was built of."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deployer import __version__
from tests.parts.package import HOUSE, Package, files_of_the_tree
from tests.test_house import FLOORS

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_everything_that_the_product_reads_is_in_the_wheel(package: Package) -> None:
    own = {name for name in files_of_the_tree() if name.partition("/")[0] in FLOORS and not name.endswith(".po")}
    assert own <= package.names
    rest = {name for name in package.names - own if ".dist-info/" not in name}
    assert not rest, "nothing else is in it: no tests, no bench, no catalogue's source"


def test_the_archive_of_the_source_builds_the_same_wheel(package: Package, tmp_path: Path) -> None:
    assert {"requirements.txt", "CHANGELOG.md", "README.md", "README.zh-hans.md", "LICENSE"} <= package.source_names
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path)]
    subprocess.run([*command, package.source], check=True)
    again = next(tmp_path.glob("*.whl"))
    assert again.name == package.wheel.name
    listed = subprocess.run([sys.executable, "-m", "zipfile", "-l", again], check=True, capture_output=True, text=True)
    assert {line.split()[0] for line in listed.stdout.splitlines()[1:]} == package.names


@pytest.fixture
def outside(tmp_path: Path) -> Run:
    """Runs a program in an empty home, in a folder that is none of ours, with nothing of this environment."""
    home = tmp_path / "home"
    home.mkdir()

    def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
        places = {"HOME": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        return subprocess.run(
            [*command],
            env={**own, **places, **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    return run


@pytest.mark.long
def test_pipx_installs_it_and_it_deploys(package: Package, outside: Run, tmp_path: Path) -> None:
    places = {
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "DEPLOYER_DATA_DIR": str(tmp_path / "data"),
    }
    done = outside(sys.executable, "-m", "pipx", "install", "--python", sys.executable, package.wheel, **places)
    assert done.returncode == 0, done.stdout + done.stderr
    deployer = tmp_path / "bin" / "deployer"
    assert outside(deployer, "version", **places).stdout == f"deployer {__version__}\n"
    demo = outside(deployer, "demo", "--once", **places)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "restart_only success, verified over HTTP on every server" in demo.stdout
    beside = {path.name for path in (tmp_path / "pipx").rglob("*") if path.suffix in {".sqlite3", ".key", ".sock"}}
    assert not beside, "nothing is kept beside the code"


def test_uv_installs_it_as_a_tool(package: Package, outside: Run, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels)]
    subprocess.run([*command, "--requirement", HOUSE / "requirements.txt"], check=True)
    places = {
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    uv = Path(sys.executable).with_name("uv")
    offline = ["--offline", "--no-index", "--find-links", wheels, "--python", sys.executable]
    done = outside(uv, "tool", "install", *offline, package.wheel, **places)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = {"DEPLOYER_DATA_DIR": str(tmp_path / "data"), "DEPLOYER_LANGUAGE": "zh-hans"}
    deployer = tmp_path / "bin" / "deployer"
    checked = outside(deployer, "check", "--deploy", DEPLOYER_HTTPS="yes", **settings)
    assert checked.returncode == 0, checked.stderr
    listed = outside(deployer, **settings).stdout
    assert "取消" in listed, "the catalogue is in it"
