"""Commands that install a project's dependencies and build it: shell text only, run by bash on this machine."""

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
