"""Commands that install a project's dependencies and build it: shell text only, run by bash on this machine."""

import re
from collections.abc import Collection, Mapping

from servers.shell import Script

#: By project type, the first file that is there decides (None: always).
_NODE = (
    ("pnpm-lock.yaml", "pnpm install --frozen-lockfile"),
    ("yarn.lock", "yarn install --frozen-lockfile"),
    ("package-lock.json", "npm ci --no-audit --no-fund"),
    ("npm-shrinkwrap.json", "npm ci --no-audit --no-fund"),
    ("package.json", "npm install --no-audit --no-fund"),
)
_PYTHON = (
    ("requirements.txt", "pip install --disable-pip-version-check -r requirements.txt"),
    ("pyproject.toml", "pip install --disable-pip-version-check ."),
)
_JAVA = (
    ("mvnw", "sh ./mvnw -B -q dependency:go-offline"),
    ("gradlew", "sh ./gradlew --no-daemon -q dependencies"),
    ("pom.xml", "mvn -B -q dependency:go-offline"),
    ("build.gradle", "gradle --no-daemon -q dependencies"),
    ("build.gradle.kts", "gradle --no-daemon -q dependencies"),
)
_INSTALLERS = {
    "frontend": _NODE,
    "backend": (*_PYTHON, *_NODE),
    "java": _JAVA,
    "other": (*_NODE, *_PYTHON, *_JAVA),
}


def automatic_install(project_type: str, files: Collection[str]) -> str:
    """The install command for a work folder that holds ``files``; empty when nothing in it asks for one."""
    for name, command in _INSTALLERS[project_type]:
        if name in files:
            return command
    return ""


def needs_python_environment(command: str) -> bool:
    """Whether ``command`` installs Python packages, which go into an environment beside the work folder."""
    return command.startswith("pip ")


def with_python_environment(command: str, folder: str, quoted_environment: str, env: Mapping[str, str]) -> Script:
    """Make a virtual environment outside the work folder, so that it is not released, and install into it."""
    return Script(f"python3 -m venv {quoted_environment}\n{quoted_environment}/bin/{command}", env, folder)


#: Programs that builds are made with, and that a machine may lack.
_TOOLS = frozenset(
    (
        *("ant", "bun", "bundle", "bundler", "cargo", "cmake", "composer", "corepack", "deno", "dotnet", "flutter"),
        *("gem", "go", "gradle", "gulp", "hugo", "jekyll", "java", "javac", "lein", "make", "meson", "mix", "mkdocs"),
        *("mvn", "ninja", "node", "npm", "npx", "php", "pip", "pip3", "pipenv", "pnpm", "poetry", "python"),
        *("python3", "rake", "ruby", "sbt", "swift", "uv", "yarn", "zig"),
    )
)
_BEFORE = r"(?:^|&&|\|\||[;|(]|\bthen\b|\bdo\b)[ \t]*(?:(?:[A-Za-z_]\w*=[^\s;|&]*|exec|time|env)[ \t]+)*"
_COMMAND = re.compile(_BEFORE + r"([a-z][\w.+-]*)(?=[\s;&|)]|$)", re.MULTILINE)
#: A script with one of these may bring its programs itself.
_BRINGS = re.compile(
    r"\bPATH=|\bsource\b|^[ \t]*\. |\bnvm\b|\bcurl\b|\bwget\b|\bcorepack\b|(?:apt|apk|apt-get|dnf) (?:add|install)\b"
    r"|(?:pip3?|gem|go|cargo) install\b|npm (?:i|install) (?:-g|--global)\b",
    re.MULTILINE,
)


def tools_of_install(command: str) -> list[str]:
    """The programs that an automatic install command cannot do without."""
    if command.startswith("sh "):  # a wrapper, which the repository brings, and which starts Java
        return ["java"]
    return ["python3"] if needs_python_environment(command) else command.split()[:1]


def tools_of_script(script: str) -> list[str]:
    """The programs that a script seems to begin commands with: a guess."""
    if _BRINGS.search(script):
        return []
    return list(dict.fromkeys(name for name in _COMMAND.findall(script) if name in _TOOLS))
