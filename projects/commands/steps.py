"""The text of a step, and the variables that it has besides those of the restart script."""

from collections.abc import Mapping
from shlex import quote

from servers.shell import Script


def script(text: str, env: Mapping[str, str], folder: str, run_as: str = "") -> Script:
    """``text``, run by bash in ``folder``, else in the home; a command that fails ends it."""
    return Script(f"exec bash -e -o pipefail -c {quote(text)}", env, folder, run_as)


def is_there(deploy_path: str, version: str) -> str:
    """Ends with status 0 where the server holds the release ``version``; only answers where that is empty."""
    return f"[ -d {quote(f'{deploy_path}/releases/{version}')} ]" if version else "true"
