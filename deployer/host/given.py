"""Settings as the environment gives them: read by name, so that a name that nobody reads is noticed."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

#: The settings of an installation of the system.
SYSTEM_ENV_FILE = Path("/etc/deployer/deployer.env")


def env_file(environment: Mapping[str, str] = os.environ) -> Path:
    """The settings of an installation: of the user's own where there are any, else of the system's."""
    told = Path(environment.get("XDG_CONFIG_HOME", ""))
    own = (told if told.is_absolute() else Path.home() / ".config") / "deployer" / "deployer.env"
    return own if os.geteuid() != 0 and own.exists() else SYSTEM_ENV_FILE


def read_env_file(path: Path, *, is_named: bool) -> None:
    """Put what a file of ``NAME=value`` lines says into the environment, where that does not say it itself.

    Raises `ImproperlyConfigured` for one that cannot be read, or that is named and not there.
    """
    try:
        with path.open(encoding="utf-8") as file:
            environ.Env.read_env(file)
    except FileNotFoundError as error:
        if is_named:
            raise ImproperlyConfigured(f"DEPLOYER_ENV_FILE={path}: there is no such file.") from error
    except UnicodeDecodeError as error:
        raise ImproperlyConfigured(f"The settings in {path} are not text in UTF-8.") from error
    except OSError as error:
        raise ImproperlyConfigured(
            f"The settings in {path} cannot be read ({error.strerror}): run this as the user that deployer runs as, or "
            "as root. An installation of your own has its settings in ~/.config/deployer/deployer.env."
        ) from error


def is_in_file(name: str, path: Path) -> bool:
    """Whether a file of ``NAME=value`` lines says what ``name`` is."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return any(line.strip().removeprefix("export ").startswith(f"{name}=") for line in lines)


def own_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where an installation keeps its data, unless it is told: in the system for root, else with its user's data."""
    if os.geteuid() == 0:
        return Path("/var/lib/deployer")
    told = Path(environment.get("XDG_DATA_HOME", ""))
    return (told if told.is_absolute() else Path.home() / ".local" / "share") / "deployer"


#: Secrets of an installation, a file each under the name of the setting; systemd hands them to units (LoadCredential).
CREDENTIALS = Path("/etc/deployer/credentials")


def credentials(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Settings that are kept in files: those that systemd has handed to this unit, else those of the installation.

    Empty where there are none, or where this user may not read them. Raises `ImproperlyConfigured` for one that is no
    text.
    """
    handed = environment.get("CREDENTIALS_DIRECTORY", "")
    folder, prefix = (Path(handed), "deployer_") if handed else (CREDENTIALS, "")
    found = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.name.startswith(prefix) and path.is_file():
                found[path.name.removeprefix(prefix)] = path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"A setting kept in {folder} cannot be read: {error}.") from error
    return found


class Given:
    """The environment's variables, and which of them were asked for."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._known: set[str] = set()

    def text(self, name: str, default: str = "") -> str:
        """The value of a variable without blanks around it; ``default`` where it is not set or empty."""
        self._known.add(name)
        return self._environment.get(name, "").strip() or default

    def yes_or_no(self, name: str, default: str) -> bool:
        """Whether a variable says yes. Raises `ImproperlyConfigured`."""
        value = self.text(name, default).lower()
        if value in {"yes", "true", "1", "on"}:
            return True
        if value in {"no", "false", "0", "off"}:
            return False
        raise ImproperlyConfigured(f"{name} must be yes or no, not {value!r}.")

    def whole_number(self, name: str, default: int, low: int, high: int) -> int:
        """The number that a variable gives. Raises `ImproperlyConfigured`."""
        value = self.text(name, str(default))
        if not value.isdecimal() or not low <= int(value) <= high:
            raise ImproperlyConfigured(f"{name} must be a whole number from {low} to {high}, not {value!r}.")
        return int(value)

    def one_of(self, name: str, *known: str) -> str:
        """Which ``known`` word a variable gives; the first where it is not set. Raises `ImproperlyConfigured`."""
        value = self.text(name, known[0]).lower()
        if value not in known:
            raise ImproperlyConfigured(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, not {value!r}.")
        return value

    def refuse_unknown(self, prefix: str, *own: str) -> None:
        """Raise `ImproperlyConfigured` for a name with ``prefix`` that was never asked for and is not our ``own``."""
        known = self._known | {*own}
        for name in sorted(self._environment):
            if name.startswith(prefix) and name not in known:
                close = difflib.get_close_matches(name, sorted(self._known), n=1)
                hint = f"did you mean {close[0]}?" if close else "README.md lists those that there are."
                raise ImproperlyConfigured(f"There is no setting {name}: {hint}")


def refuse_unencoded(name: str, url: str, breaking: str) -> None:
    """Raise `ImproperlyConfigured` for an address that a character of its login takes apart in the wrong place.

    ``breaking`` are those that do. The sentence never repeats the address: its password would be in every log.
    """
    login, at, _place = url.partition("://")[2].rpartition("@")
    if wrong := [each for each in breaking if at and each in login]:
        named = ", ".join(f"{each} as %{ord(each):02X}" for each in wrong)
        raise ImproperlyConfigured(
            f"The user or the password in {name} holds characters that an address must have percent-encoded: {named}."
        )
