"""What is written for people is true: commands, settings, links and names in the papers are those of the code."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from deployer import __version__
from deployer.models import Deployment, Target
from deployer.settings import OWN_NAMES
from tests import pictures
from tests.test_house import ROOMS

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
    command = [str(copy / "manage.py"), *arguments]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False)


def test_manage_py_is_run_by_the_environment_beside_it(copy: Path, bare_python: Path) -> None:
    (copy / ".venv").symlink_to(sys.prefix)
    help_text = _started(copy, bare_python, "deploy", "--help")
    assert (help_text.returncode, help_text.stderr) == (0, "")
    assert help_text.stdout.startswith("usage: deployer deploy")
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


def test_a_checkout_has_the_command_line_by_its_name(copy: Path, bare_python: Path, tmp_path: Path) -> None:
    assert os.access(HOUSE / "manage.py", os.X_OK)
    (copy / ".venv").symlink_to(sys.prefix)
    (copy / "bin").unlink()
    shutil.copytree(HOUSE / "bin", copy / "bin")
    (tmp_path / "deployer").symlink_to(copy / "bin" / "deployer")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DEPLOYER_DATA_DIR": str(copy / "data")}
    told = subprocess.run(["deployer", "version"], env=environment, cwd="/", check=True, capture_output=True, text=True)
    assert told.stdout == f"deployer {__version__}\n"


# --- commands, settings and links ------------------------------------------------------------------

READMES = ["README.md", "README.zh-hans.md"]
PAPERS = sorted(str(path.relative_to(HOUSE)) for path in [*HOUSE.glob("*.md"), *(HOUSE / "docs").glob("*.md")])


def _text(paper: str) -> str:
    return (HOUSE / paper).read_text()


def _code_lines(paper: str) -> list[str]:
    """The lines of a paper's code blocks."""
    blocks = re.findall(r"^```.*?\n(.*?)^```$", _text(paper), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


def _spans(text: str) -> list[str]:
    """What stands in backticks in running text."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def _commands(paper: str, program: str) -> list[list[str]]:
    """The commands of a paper that run ``program``, in code blocks and in running text, without their comments."""
    lines = [*_code_lines(paper), *_spans(_text(paper))]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]
    return [list(takewhile(lambda word: word not in {">", "|", "&&"}, command)) for command in words]


@pytest.mark.parametrize("paper", PAPERS)
def test_every_command_of_a_paper_is_one_that_the_product_takes(paper: str) -> None:
    for _program, name, *arguments in _commands(paper, "deployer"):
        if name not in {"help", "COMMAND"}:
            module = name.replace("-", "_")
            command = load_command_class(get_commands()[module], module)
            command.create_parser("deployer", name).parse_args(arguments)  # raises CommandError


@pytest.mark.parametrize("paper", PAPERS)
def test_every_make_target_of_a_paper_is_there(paper: str) -> None:
    targets = set(re.findall(r"^([\w./-]+):(?!=)", _text("Makefile"), re.MULTILINE))
    named = {word for command in _commands(paper, "make") for word in command[1:] if "=" not in word}
    assert named <= targets


@pytest.mark.parametrize("paper", PAPERS)
def test_no_paper_names_a_python_that_a_bare_machine_lacks(paper: str) -> None:
    assert "python manage.py" not in _text(paper)
    assert not _commands(paper, "python")
    assert not _commands(paper, "./manage.py"), "the command line has one name"


def test_both_readmes_have_the_same_commands() -> None:
    for program in ["deployer", "make", "apt-get", "curl"]:
        english, chinese = (_commands(readme, program) for readme in READMES)
        assert english == chinese
        assert english


def _rows_of_settings(readme: str) -> list[list[str]]:
    """The names in each row of a README's table of settings."""
    rows = [line.split("|")[1] for line in _text(readme).splitlines() if line.startswith("| `")]
    named = [_spans(row) for row in rows]
    return [names for names in named if all(re.fullmatch(r"[A-Z_]+", name) for name in names)]


def _settings_of_the_product() -> set[str]:
    """The names under which the settings read the environment."""
    source = ast.parse((HOUSE / "deployer" / "settings.py").read_text())
    words = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = {word for word in words if re.fullmatch(r"DEPLOYER_[A-Z_]+|DATABASE_URL|REDIS_URL", word)}
    return named - {*OWN_NAMES}


@pytest.mark.parametrize("readme", READMES)
def test_a_readme_names_every_setting_and_no_other(readme: str) -> None:
    named = [name for row in _rows_of_settings(readme) for name in row]
    assert sorted(named) == sorted(_settings_of_the_product())


def test_both_readmes_have_the_same_rows_of_settings() -> None:
    english, chinese = map(_rows_of_settings, READMES)
    assert english == chinese


def test_the_example_of_an_environment_has_every_setting() -> None:
    assert set(re.findall(r"^#([A-Z_]+)=", _text(".env.example"), re.MULTILINE)) == _settings_of_the_product()


@pytest.mark.parametrize("paper", PAPERS)
def test_every_link_and_picture_of_a_paper_is_there(paper: str) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", _text(paper))
    relative = [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
    assert not [target for target in relative if not ((HOUSE / paper).parent / target).exists()]


# --- the architecture ------------------------------------------------------------------------------

ARCHITECTURE = "docs/architecture.md"
FLOORS = {path.parent.name for path in HOUSE.glob("*/__init__.py")} - {"tests", "bench"}
CODE = [
    ast.parse(path.read_text())
    for floor in sorted(FLOORS)
    for path in (HOUSE / floor).rglob("*.py")
    if path.parent.name != "migrations"
]
NODES = [node for module in CODE for node in ast.walk(module)]
FUNCTIONS = {node.name for node in NODES if isinstance(node, ast.FunctionDef)}
CLASSES: dict[str, list[ast.ClassDef]] = {}
for _node in NODES:
    if isinstance(_node, ast.ClassDef):
        CLASSES.setdefault(_node.name, []).append(_node)
ASSIGNED = {node.id for node in NODES if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
WORDS = {node.value for node in NODES if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def _members(name: str) -> set[str]:
    """What the bodies of the classes of a name define and assign."""
    inside = [node for each in CLASSES[name] for node in ast.walk(each)]
    defined = {node.name for node in inside if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return defined | {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _is_known(name: str) -> bool:
    """Whether a name, such as ``launch()``, ``Plan`` or ``Target.proof``, is one of the product's."""
    owner, _dot, member = name.removesuffix("()").rpartition(".")
    if owner:
        return owner in CLASSES and member in _members(owner)
    if name.endswith("()"):
        return member in FUNCTIONS
    return member in CLASSES if member[0].isupper() and not member.isupper() else member in ASSIGNED | WORDS


def test_every_path_of_the_architecture_is_there() -> None:
    spans = [span for span in _spans(_text(ARCHITECTURE)) if "/" in span and not span.startswith(("~", "./", "{"))]
    assert spans
    assert not [span for span in spans if not (HOUSE / span).exists()]
    assert not [span for span in spans if (HOUSE / span).is_dir() != span.endswith("/")]


def test_every_name_of_the_architecture_is_one_of_the_code() -> None:
    names = [span for span in _spans(_text(ARCHITECTURE)) if re.fullmatch(r"\w+(\.\w+)?(\(\))?", span)]
    on_servers = set(re.findall(r'"\$d/([\w.]+)"', _text("servers/supervised/script.py")))  # the files of a run
    assert names
    assert not [name for name in names if name not in on_servers and not _is_known(name)]


def test_the_architecture_has_every_floor_and_every_room() -> None:
    rows = {row.strip("`/ ") for row in re.findall(r"^\| (`[^|]+/`) \|", _text(ARCHITECTURE), re.MULTILINE)}
    rooms = {f"deployer/{path.parent.name}" for path in (HOUSE / "deployer").glob("*/__init__.py")}
    assert rows == FLOORS | rooms - {"deployer/migrations", "deployer/templatetags"}


def test_the_architecture_has_the_arrows_that_the_house_keeps() -> None:
    rows = re.findall(r"^\| `deployer/(\w+)/` \|[^|]+\|([^|]*)\|$", _text(ARCHITECTURE), re.MULTILINE)
    named = {room: set(re.findall(r"[\w.]+", cell)) for room, cell in rows if room != "management"}
    base = {"models", "plan", "database", "side_by_side"}
    assert named == {room: arrows - base for room, arrows in ROOMS["deployer"].items() if room in named}


@pytest.mark.parametrize("model", [Deployment, Target])
def test_the_architecture_draws_every_status(model: type[Deployment] | type[Target]) -> None:
    section = _text(ARCHITECTURE).partition(f"### `{model.__name__}.status`")[2].partition("\n#")[0]
    assert set(model.Status.values) <= set(re.findall(r"\w+", section.split("```")[1]))


@pytest.mark.parametrize("name", ["README.md", "README.zh-hans.md"])
def test_each_picture_is_there_told_in_words_and_as_large_as_it_was_taken(name: str) -> None:
    shown = re.findall(r"!\[([^\]]*)\]\((docs/images/[^)]*)\)", (HOUSE / name).read_text())
    assert {path for _words, path in shown} == {
        f"docs/images/{path.name}" for path in (HOUSE / "docs/images").iterdir()
    }
    assert len(shown) == 6
    for words, path in shown:
        assert len(words) > 10, path
        head = (HOUSE / path).read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(head[16:20]) == pictures.WIDTH
        assert 300 <= int.from_bytes(head[20:24]) <= pictures.HEIGHT
