"""Rules for git addresses, branch names, variables and rollout plans.

Migrations name them: this module keeps its name, and so do they.
"""

import math
import re
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from projects.commands.config_files import FILE, LARGEST
from projects.cron import problem_of_cron
from servers.hosts import Endpoint
from servers.validators import PathValidator, validate_host, validate_no_nul, validate_one_line

_SCP_ADDRESS = re.compile(r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[^/:@\s]+):(?P<path>[^\s].*)\Z")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}\Z")
#: A header and what it says (RFC 9110, 5.1: the name is a token).
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: *[^ ].*\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
#: Bytes of the name of a config file.
_LONGEST_NAME = 180
#: Names a shell refuses to assign, or that would change how the run itself is carried out.
_SHELL_OWNED = {"BASHOPTS", "BASH_VERSINFO", "EUID", "IFS", "PPID", "SHELLOPTS", "UID"}
#: Answers that a question offers, and characters of one.
MOST_CHOICES, LONGEST_CHOICE = 200, 500


def is_local_git_url(value: str) -> bool:
    """Whether ``value`` is a repository on this machine."""
    return value.startswith(("/", "file://"))


def git_endpoint(value: str) -> Endpoint | None:
    """Where a valid git address sends a login to; nothing for a repository on this machine."""
    if not value or is_local_git_url(value):
        return None
    if "://" in value:
        url = urlsplit(value)
        usual = 443 if url.scheme == "https" else 22
        return Endpoint(url.hostname or "", url.port or usual, usual)
    match = _SCP_ADDRESS.match(value)
    return Endpoint(match["host"] if match else "", 22)


def git_host(value: str) -> str:
    """The host of a valid git address as git and ssh name it when they ask for a login to it."""
    endpoint = git_endpoint(value)
    if endpoint is None:
        return ""
    if value.startswith("https://"):
        return urlsplit(value).netloc.rpartition("@")[2]
    return endpoint.host.lower()


def validate_git_url(value: str) -> None:
    """https://, ssh:// or user@host:path; a path of this machine only where the setting allows it.

    git takes ``--upload-pack=...`` for an option and ``ext::sh -c ...`` for a command: neither is let in.
    """
    validate_one_line(value)
    if is_local_git_url(value):
        if not settings.DEPLOYER_ALLOW_LOCAL_GIT:
            raise ValidationError(
                _(
                    "Repositories on deployer's own machine are not allowed: "
                    "set DEPLOYER_ALLOW_LOCAL_GIT=yes to allow them."
                )
            )
        return
    if "://" in value:
        try:
            url = urlsplit(value)
            host, password, _port = url.hostname, url.password, url.port
        except ValueError as error:
            raise ValidationError(_("“%(value)s” is not a git address."), params={"value": value}) from error
        if url.scheme not in {"https", "ssh"}:
            raise ValidationError(
                _("git over %(scheme)s is not supported: use https:// or ssh://."), params={"scheme": url.scheme}
            )
        if password:
            raise ValidationError(_("Do not put a password into the address: choose a credential instead."))
        if (url.username or "").startswith("-"):
            raise ValidationError(_("“%(value)s” is not a git address."), params={"value": value})
        if not url.path.strip("/"):
            raise ValidationError(_("The address names no repository."))
    else:
        match = _SCP_ADDRESS.match(value)
        if match is None or value.startswith("-") or match["path"].startswith(":"):
            raise ValidationError(
                _("“%(value)s” is not a git address: use https://…, ssh://… or git@host:path."), params={"value": value}
            )
        host = match["host"]
    validate_host(host or "")


#: Characters of a branch, a tag or a commit, as the database has room for.
LONGEST_REF = 100


def validate_ref_length(value: str) -> None:
    """Refuse a name that is too long, with the way out: a tag or a commit leads to the same code."""
    if len(value) > LONGEST_REF:
        raise ValidationError(
            _("branch may have at most %(most)d characters, and has %(length)d: give a tag or the commit instead."),
            params={"length": len(value), "most": LONGEST_REF},
        )


def validate_ref(value: str) -> None:
    """A branch, a tag or a commit, by the rules of git-check-ref-format(1)."""
    validate_one_line(value)
    wrong = (
        not value
        or value.startswith(("-", "/", "."))
        or value.endswith(("/", ".", ".lock"))
        or any(part.startswith(".") or part.endswith(".lock") for part in value.split("/"))
        or any(piece in value for piece in ("..", "//", "@{"))
        or value == "@"
        or re.search(r"[ ~^:?*\[\\]", value) is not None
    )
    if wrong:
        raise ValidationError(_("“%(value)s” is not the name of a branch, a tag or a commit."), params={"value": value})


def validate_user_name(value: str) -> None:
    """A user of a Unix system (POSIX 3.437, as useradd takes it)."""
    if not _USER.match(value):
        raise ValidationError(_("“%(value)s” is not the name of a user."), params={"value": value})


def validate_variable_name(value: str) -> None:
    """An environment variable that a shell can assign and that is not deployer's own."""
    if not _VARIABLE.match(value):
        raise ValidationError(
            _("“%(value)s” is not a variable name: use letters, digits and underscores, not a digit first."),
            params={"value": value},
        )
    if value in _SHELL_OWNED or value.startswith(("DEPLOY_", "DEPLOYER_")):
        raise ValidationError(_("“%(value)s” is reserved."), params={"value": value})


def choice_list(value: str) -> list[str]:
    """The answers that a question takes, one a line, each once; lines without anything are none."""
    return [*dict.fromkeys(line for line in value.split("\n") if line.strip())]


def validate_choices(value: str) -> None:
    """Answers to choose from: not too many, and none too long for a page."""
    validate_no_nul(value)
    found = choice_list(value)
    if len(found) > MOST_CHOICES or any(len(line) > LONGEST_CHOICE for line in found):
        raise ValidationError(
            _("At most %(most)d answers, of at most %(longest)d characters each."),
            params={"most": MOST_CHOICES, "longest": LONGEST_CHOICE},
        )


def validate_config_path(value: str) -> None:
    """A file on a server or in a release, in one spelling, with room in its name for what is kept beside it."""
    PathValidator(relative_allowed=True)(value)
    parts = value.removeprefix("~/").removeprefix("/").split("/")
    if {"", "."} & {*parts} or value.startswith("-"):
        raise ValidationError(
            _("“%(value)s” is not the path of a file: it must not have “//” or “.”, nor end in “/”."),
            params={"value": value},
        )
    if any(part.startswith(".deployer") for part in parts):
        raise ValidationError(_("Names that begin with .deployer are deployer's own."))
    if len(parts[-1].encode()) > _LONGEST_NAME:
        raise ValidationError(_("The name of the file may have at most %d bytes.") % _LONGEST_NAME)


def validate_content(value: str) -> None:
    """The content of a config file: text that UTF-8 can hold, of a size that a page can show."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise ValidationError(_("The content is not text.")) from error
    if size > LARGEST:
        raise ValidationError(
            _(
                "The content has %(size)d KB, and %(most)d at most are allowed: put a file of this size into the "
                "release."
            ),
            params={"size": -(-size // 1024), "most": LARGEST // 1024},
        )


def validate_mode(value: str) -> None:
    """The permission bits of a file, in octal; its owner can read it."""
    if not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII) or not int(value, 8) & 0o400:
        raise ValidationError(
            _("“%(value)s” is not a mode: give three octal digits like 0640."), params={"value": value}
        )


def validate_owner(value: str) -> None:
    """``user`` or ``user:group``, by name or by number."""
    for part in value.split(":", 1):
        if not (_USER.match(part) or re.fullmatch(r"[0-9]{1,10}", part, re.ASCII)):
            raise ValidationError(
                _("“%(value)s” is not an owner: give a user, or user:group."), params={"value": value}
            )


def validate_check_of_file(value: str) -> None:
    """A command that looks at the new content, which is not where the file is yet."""
    validate_one_line(value)
    if FILE not in value:
        raise ValidationError(_("The command must name {file}: the new content, before it is in its place."))


def validate_header(value: str) -> None:
    """``Name: text``, on one line."""
    validate_one_line(value)
    if not _HEADER.match(value):
        raise ValidationError(
            _("“%(value)s” is not a header: give its name, a colon and a text, like “X-Release: {release}”."),
            params={"value": value},
        )


def validate_relative_folder(value: str) -> None:
    """A folder inside the work tree: relative, one line, no ``..``."""
    validate_one_line(value)
    if value.startswith("/") or ".." in value.split("/"):
        raise ValidationError(_("“%(value)s” must be a folder inside the repository."), params={"value": value})


def shared_path_list(value: str) -> list[str]:
    """The paths of ``uploads/, .env``, separated by commas or lines, in their order, each once."""
    return list(dict.fromkeys(path for path in (item.strip() for item in re.split(r"[,\n]", value)) if path))


def validate_shared_paths(value: str) -> None:
    """Relative paths inside a release, none of them inside another."""
    paths = shared_path_list(value)
    for path in paths:
        validate_relative_folder(path)
        if {"", "."} & {*path.removesuffix("/").split("/")} or path.startswith("-"):
            raise ValidationError(
                _("“%(value)s” must be a file or a folder inside the release."), params={"value": path}
            )
    plain = [path.rstrip("/") for path in paths]
    for path in plain:
        if plain.count(path) > 1 or any(path.startswith(f"{other}/") for other in plain):
            raise ValidationError(_("“%(value)s” is inside another shared path."), params={"value": path})


#: Logs of a project that can be followed besides the one that is kept as evidence.
MOST_LOGS = 5


def log_path_list(value: str) -> list[str]:
    """The paths of logs, one a line, in their order, each once."""
    return list(dict.fromkeys(path for path in map(str.strip, value.splitlines()) if path))


def validate_log_paths(value: str) -> None:
    """At most `MOST_LOGS` paths of files, one a line: absolute, below the home, or below the deploy path."""
    paths = log_path_list(value)
    if len(paths) > MOST_LOGS:
        raise ValidationError(_("Give at most %d paths.") % MOST_LOGS)
    for path in paths:
        PathValidator(relative_allowed=True)(path)
        if path.endswith("/"):
            raise ValidationError(_("“%(value)s” must be a file."), params={"value": path})


def parse_batches(value: str) -> list[tuple[int, bool]]:
    """``1, 25%, 100%`` as ``[(1, False), (25, True), (100, True)]``: (number, is it a percentage).

    Raises `ValidationError`.
    """
    batches = []
    for item in value.split(","):
        match = re.fullmatch(r"\s*+([0-9]{1,4})\s*+(%?)\s*+", item)
        if match is None or int(match[1]) == 0 or (match[2] and int(match[1]) > 100):
            raise ValidationError(
                _("“%(item)s” is not a batch: give numbers of servers or percentages, like “1, 25%%, 100%%”."),
                params={"item": item.strip()},
            )
        batches.append((int(match[1]), bool(match[2])))
    return batches


def validate_batches(value: str) -> None:
    """Refuse what `parse_batches` cannot read."""
    parse_batches(value)


#: Seconds of the longest pause that ends by itself, and minutes that the longest question waits for its answer.
LONGEST_PAUSE, LONGEST_QUESTION = 7 * 86_400, 7 * 1_440
#: Days for which something is kept at most where it is not kept for ever.
LONGEST_KEPT = 36_500
#: Pauses after all batches, or after none of them.
EVERY, NONE = "every", "none"


def parse_pauses(value: str) -> frozenset[int] | None:
    """The batches after which a rollout waits; nothing for all of them. Raises `ValidationError`."""
    text = value.strip().lower()
    if text == EVERY:
        return None
    if text in {"", NONE}:
        return frozenset()
    numbers = [entry.strip() for entry in text.split(",")]
    if not all(entry.isascii() and entry.isdecimal() and 0 < int(entry[:6]) < 100_000 for entry in numbers):
        raise ValidationError(
            _("“%(value)s” are no batches: name their numbers, like “1, 3”, or “every”, or “none”."),
            params={"value": value},
        )
    return frozenset(map(int, numbers))


def validate_pauses(value: str) -> None:
    """Refuse what `parse_pauses` cannot read."""
    parse_pauses(value)


def batch_numbers(value: str, servers: int) -> list[int]:
    """The batch (from 1) of each of ``servers`` servers, in order.

    A number adds that many servers, a percentage goes up to that share of all of them (rounded up); the last
    entry repeats until every server has its batch.
    """
    entries = parse_batches(value)
    numbers: list[int] = []
    batch = 0
    while len(numbers) < servers:
        size, is_share = entries[min(batch, len(entries) - 1)]
        batch += 1
        upto = math.ceil(servers * size / 100) if is_share else len(numbers) + size
        if upto <= len(numbers):  # a share that is reached already: it repeats as a step
            upto = len(numbers) + max(1, math.ceil(servers * size / 100)) if batch >= len(entries) else upto
        step = max(0, min(upto, servers) - len(numbers))
        numbers += [batch] * step
    ranks = {number: rank for rank, number in enumerate(dict.fromkeys(numbers), start=1)}
    return [ranks[number] for number in numbers]


def validate_time_zone(value: str) -> None:
    """Refuse what is no IANA time zone."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValidationError(_("“%s” is not a time zone: name one like Europe/Berlin.") % value) from error


def validate_cron(value: str) -> None:
    """Refuse what is no pattern of cron, or never comes round."""
    if problem := problem_of_cron(value):
        raise ValidationError(problem)


#: What a step tells apart of what is launched; `projects.steps.Launched` has their names.
_LAUNCHES = ("full", "restart_only", "rollback")


def validate_launches(value: object) -> None:
    """A list of launches, each once."""
    named = [str(each) for each in value] if isinstance(value, list) else None
    if named is None or not {*named} <= {*_LAUNCHES} or len({*named}) != len(named):
        raise ValidationError(
            _("Expected a list of these, each once: %(types)s."), params={"types": ", ".join(_LAUNCHES)}
        )


#: Patterns of one list, and characters of one of them.
MOST_PATTERNS, LONGEST_PATTERN = 50, 200


def validate_patterns(value: object) -> None:
    """A list of patterns, one line each."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValidationError(_("Give a list of patterns."))
    if len(value) > MOST_PATTERNS:
        raise ValidationError(_("At most %(most)d patterns."), params={"most": MOST_PATTERNS})
    for each in value:
        validate_one_line(each)
        if not each.strip(" !") or len(each) > LONGEST_PATTERN:
            raise ValidationError(
                _("“%(pattern)s” is no pattern: it has 1 to %(most)d characters."),
                params={"pattern": each[:LONGEST_PATTERN], "most": LONGEST_PATTERN},
            )
