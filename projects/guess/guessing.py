"""The first guess that fits a repository."""

from dataclasses import replace

from django.utils.translation import gettext as _

from projects.guess.languages import LANGUAGES
from projects.guess.node import node
from projects.guess.proposal import Files, Guess, Type


def guess(files: Files) -> Guess:
    """The first guess that fits a repository with these files in its top folder."""
    for look in (*LANGUAGES, node, _static):
        found = look(files)
        if found is not None:
            return _with_all_files(files, replace(found, watch_for=_worth_watching(found.process_name)))
    return _with_all_files(files, _unknown(files))


def _with_all_files(files: Files, found: Guess) -> Guess:
    """``found`` with what the repository keeps elsewhere: submodules, and large files."""
    return replace(found, submodules=".gitmodules" in files, lfs="filter=lfs" in files.get(".gitattributes", ""))


def _worth_watching(process_name: str) -> int:
    """Seconds after which such an application has shown whether it can start.

    gunicorn, and others in Python, try a port that is taken for five seconds before they end; a Java application may
    take longer to find out that it lacks something.
    """
    program = process_name.partition(" ")[0]
    known = {
        "": 1,
        "-jar": 15,
        "gunicorn": 8,
        "uvicorn": 8,
        "streamlit": 8,
        "python": 8,
        "puma": 8,
        "node": 5,
        "next-server": 5,
    }
    return known.get(program, 3)


def suggested_script(files: Files, found: Guess, deploy_path: str) -> str:
    """Where the restart script lies: in the release where the repository brings one, else beside the releases.

    Empty where none has to lie on the servers: an example that starts it is kept in the project, or its kind does.
    """
    if "restart.sh" in files and not found.output_dir:
        return "restart.sh"
    needs_none = found.start or found.project_type == Type.FRONTEND
    return "" if needs_none else f"{deploy_path}/restart.sh"


def _static(files: Files) -> Guess | None:
    if "index.html" not in files:
        return None
    return Guess(Type.FRONTEND, reasons=(_("index.html: a static site, released as it is."),))


def _unknown(files: Files) -> Guess:
    """An unknown kind of project; a script or a Makefile may still say how it is built."""
    commands = {"build.sh": "bash build.sh", "Makefile": "make"}
    name = next((name for name in commands if name in files), "")
    if name:
        reason = _("%s: the project seems to be built with it.") % name
        return Guess(build_script=commands[name], reasons=(reason,))
    return Guess(reasons=(_("The top folder does not show what kind of project it is: fill in what is needed."),))
