"""A restart script to begin with, and how an application can say which release it is."""

import re

from projects.guess.proposal import Guess, ServiceKind, Type, short_name

#: How PHP takes up new code: Debian calls the unit php8.2-fpm or the like, others php-fpm.
PHP_RELOAD = "sudo systemctl reload php-fpm"
_PHP_RELOAD = (
    "# Debian names the unit by its version: php8.2-fpm.\n"
    "unit=$(systemctl list-units --plain --no-legend 'php*fpm.service' | awk 'NR == 1 { print $1 }')\n"
    'sudo systemctl reload "${unit:-php-fpm}"'
)


def pid_file(found: Guess, name: str, deploy_path: str) -> str:
    """The file in which the example script keeps the pid of what it has started; empty where it starts nothing."""
    if found.start in {"", PHP_RELOAD} or found.service_kind != ServiceKind.PROCESS:
        return ""
    return f"{deploy_path}/shared/{short_name(name)}.pid"


def example_script(found: Guess, name: str) -> str:
    """A restart script to begin with, for a project that has none."""
    head = (
        "#!/usr/bin/env bash\n"
        f"# Restarts {short_name(name)}, on every server, in full and in restart-only deployments.\n"
        "set -euo pipefail\n"
    )
    if found.project_type == Type.FRONTEND:
        return (
            f"{head}# The web server serves $DEPLOY_PATH/current: no process has to be replaced.\n"
            'echo "live: $(readlink "$DEPLOY_PATH/current")"\n'
            "# sudo systemctl reload nginx\n"
        )
    if found.start == PHP_RELOAD:
        return f"{head}{_PHP_RELOAD}\n"
    unit = short_name(name)
    start = found.start or "./YOUR-PROGRAM"
    lines = [
        f"# With a systemd unit, this is all:  sudo systemctl restart {unit}",
        'cd "$DEPLOY_PATH/current"',
        *_python_environment(start),
        f'pid_file="$DEPLOY_PATH/shared/{unit}.pid"',
        'if [ -s "$pid_file" ] && kill "$(cat "$pid_file")" 2>/dev/null; then',
        '    for _ in $(seq 100); do kill -0 "$(cat "$pid_file")" 2>/dev/null || break; sleep 0.1; done',
        "fi",
        f'nohup {start} >>"$DEPLOY_PATH/shared/{unit}.log" 2>&1 </dev/null &',
        'echo $! >"$pid_file"',
    ]
    return head + "\n".join(lines) + "\n"


#: How an application says in a header which release it is, by a word of the command that starts it.
_SAYS = {
    "java": 'response.setHeader("X-Release", System.getenv("DEPLOY_RELEASE"));',
    "gunicorn": 'response.headers["X-Release"] = os.environ["DEPLOY_RELEASE"]',
    "uvicorn": 'response.headers["X-Release"] = os.environ["DEPLOY_RELEASE"]',
    "python": 'response.headers["X-Release"] = os.environ["DEPLOY_RELEASE"]',
    "bundle": 'response.set_header("X-Release", ENV["DEPLOY_RELEASE"])',
    "dotnet": 'context.Response.Headers["X-Release"] = Environment.GetEnvironmentVariable("DEPLOY_RELEASE");',
    "node": 'response.setHeader("X-Release", process.env.DEPLOY_RELEASE);',
    "start": 'response.setHeader("X-Release", process.env.DEPLOY_RELEASE);',
}


def example_header(found: Guess) -> str:
    """How the application can say its release, in a line of its own language or of its web server's configuration."""
    if found.project_type == Type.FRONTEND or found.start.startswith("sudo systemctl reload "):
        return "add_header X-Release $realpath_root always;  # nginx, where root is in current"
    words = re.findall(r"[a-z]+", found.start)
    return next((line for word, line in _SAYS.items() if word in words), "X-Release: $DEPLOY_RELEASE")


#: Programs that answer requests for a Python application, and that its requirements may leave out.
_SERVERS = ("gunicorn", "uvicorn")


def _python_environment(start: str) -> list[str]:
    """The lines that give a Python application its packages on the server; none for others.

    A step that is ready to pick makes the same environment beforehand; then a restart installs nothing.
    """
    program = re.match(r"\.venv/bin/(\w+)", start)
    if not program:
        return []
    lines = [
        "[ -d .venv ] || python3 -m venv .venv",
        "if [ -e requirements.txt ]; then set -- -r requirements.txt; else set -- .; fi",
        '.venv/bin/pip install -q "$@"',
    ]
    if program[1] in _SERVERS:  # applications are developed without it
        lines.append(f"[ -e {program[0]} ] || .venv/bin/pip install -q {program[1]}")
    if program[1] == "python":  # it is there before the packages are
        return lines
    return [f"if [ ! -e {program[0]} ]; then", *(f"    {line}" for line in lines), "fi"]
