"""Passwords and tokens in command lines, found by their usual shapes: nobody has told them, unlike the known secrets.

The words of a line are looked at once each, from the first to the last; what a word costs grows with its length alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from deployer.log.masking import MASK

#: A name ends in one of these where its value is a secret: `--db-password`, `API_TOKEN`, `keyStorePassword`.
_ENDINGS = ("password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "apikey", "passwort")
#: Or it is one of these words, or ends in one of these pairs.
_WORDS = frozenset({"pass", "requirepass", "masterauth", "storepass", "keypass", "srcstorepass", "deststorepass", "pw"})
_PAIRS = frozenset(
    (first, "key") for first in ("api", "access", "private", "secret", "signing", "encryption", "master", "account")
) | {("secret", "id"), ("key", "pass"), ("store", "pass"), ("require", "pass"), ("connection", "string")}
#: These may stand behind: `PASSWORD_2`, `SECRET_KEY_BASE`.
_BEHIND = frozenset({"value", "base", "hash", "raw", "old", "new", "b64", "base64"})
#: The folder of a shell, and whether there is a password: none of these has one behind it.
_FOLDERS = frozenset({"PWD", "OLDPWD"})
_ASKING = frozenset({"no", "ask", "skip", "without", "prompt", "use", "require", "disable", "enable", "with"})
#: Headers whose values are secrets, and the names of schemes that stand before one.
_HEADERS = frozenset({"authorization", "cookie", "set-cookie"})
_SCHEMES = frozenset({"bearer", "basic", "token", "digest", "apikey", "negotiate"})

#: By program: the short options with a secret in the same word, in the next word, or as USER:SECRET in either.
_MYSQL = ("-p", "", "")
_PROGRAMS: dict[str, tuple[str, str, str]] = {
    **dict.fromkeys(("mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlcheck", "mysqlsh", "mysqlpump"), _MYSQL),
    **dict.fromkeys(("mariadb", "mariadb-dump", "mariadb-admin", "mariadb-import", "mariadb-check"), _MYSQL),
    **dict.fromkeys(("7z", "7za", "7zr"), ("-p", "", "")),
    **dict.fromkeys(("mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"), ("", "-p", "")),
    **dict.fromkeys(("redis-cli", "valkey-cli", "keydb-cli"), ("", "-a", "")),
    **dict.fromkeys(("ldapsearch", "ldapadd", "ldapmodify", "ldapwhoami", "ldapdelete"), ("-w", "-w", "")),
    **dict.fromkeys(("sqlcmd", "bcp", "ipmitool", "mosquitto_pub", "mosquitto_sub", "zip", "unzip"), ("-P", "-P", "")),
    **dict.fromkeys(("curl", "http", "https"), ("", "", "-u -U -a --user --proxy-user --auth")),
    "twine": ("-p", "-p", ""),
    "sshpass": ("-p", "-p", ""),
    # Their -p is a port, or a profile.
    **dict.fromkeys(("ssh", "scp", "sftp", "rsync", "java", "node", "python3", "python", "php", "ruby"), ("", "", "")),
}

#: What may stand around the words of a command within another one.
_QUOTES = "'\"`();"

_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
#: The name before a value, of an option, a variable, a parameter of an address or a member of JSON.
_NAMED = re.compile(r"(?<![\w.-])(-{0,2}[A-Za-z_][\w.-]{0,80})[\"']?[=:]")
_END_OF_A_PART = re.compile(r"[\s&;\"'}]")
_END_OF_AN_ADDRESS = re.compile(r"[\s\"'<>]")


def command_line(text: str) -> str:
    """A command line without its secrets; its words end with NUL, as /proc has them, or are separated by spaces."""
    words = text.rstrip("\0 ").split("\0") if "\0" in text else re.split(r"(?<=\s)(?=\S)", text)
    return (" " if "\0" in text else "").join(_masked(words))


def lines(text: str) -> str:
    """Text with command lines among its lines, such as a list of processes."""
    return "\n".join(command_line(line) for line in text.split("\n"))


def _masked(words: Iterable[str]) -> Iterator[str]:
    """The words, each with or without the white space behind it."""
    waiting: Callable[[str], str] | None = None
    joined = next_word = pair = ""
    for word in words:
        bare = word.rstrip()
        space = word[len(bare) :]
        if waiting is not None and bare:
            if bare.rstrip(":").lower() in _SCHEMES:
                yield word
                continue
            shown, waiting = waiting(bare), None
            yield shown + space
            continue
        option = bare.strip(_QUOTES)
        program = option.rpartition("/")[2]
        if program in _PROGRAMS:
            joined, next_word, pair = _PROGRAMS[program]
        if option in next_word.split() or _is_option_with_secret(option) or _is_header(bare):
            waiting = _unless_option if option.startswith("--") else _hidden
            yield word
        elif option in pair.split():
            waiting = _second_half
            yield word
        elif (given := bare.partition("="))[0] in pair.split():
            yield f"{given[0]}={_second_half(given[2])}{space}"
        elif joined and option.startswith(joined) and not option.startswith("--"):
            yield f"{joined}{MASK}{space}"
        elif " " in bare or "\n" in bare:
            yield _nested(bare) + space
        else:
            yield _without_secrets(bare) + space


def _nested(word: str) -> str:
    """A word that holds others: a command for a shell, or an option whose value has spaces."""
    if word.startswith("-") and (match := _NAMED.match(word)) and _is_secret(match[1]):
        return f"{word[: match.end()]}{MASK}"
    return command_line(word)


def _hidden(_word: str) -> str:
    return MASK


def _unless_option(word: str) -> str:
    """The value behind an option; another option shows that it had none."""
    return _without_secrets(word) if word.startswith("--") else MASK


def _second_half(word: str) -> str:
    user, colon, _secret = word.partition(":")
    return f"{user}:{MASK}" if colon else word


def _is_option_with_secret(word: str) -> bool:
    """Whether the next word is the secret: ``--password``, ``-storepass``."""
    if not word.startswith("-") or len(word) < 4 or "=" in word or ":" in word:
        return False
    parts = _parts(word)
    return _is_secret(word) and not (parts and parts[0] in _ASKING)


def _is_header(word: str) -> bool:
    name = word.rstrip(":").strip("\"'").lower()
    if name == "bearer":
        return True
    return word.endswith(":") and (name in _HEADERS or _is_secret(name))


def _parts(name: str) -> list[str]:
    return [part.lower() for part in _PARTS.findall(name[:120])]


def _is_secret(name: str) -> bool:
    """Whether the value of something with this name is a secret."""
    parts = _parts(name)
    while len(parts) > 1 and (parts[-1] in _BEHIND or parts[-1].isdigit()):
        parts.pop()
    if not parts or name in _FOLDERS:
        return False
    return parts[-1].endswith(_ENDINGS) or parts[-1] in _WORDS or tuple(parts[-2:]) in _PAIRS


def _without_secrets(word: str) -> str:
    """A word with the values of its secret names, and the password of each address in it, masked."""
    word = _without_logins(word)
    shown, at = [], 0
    for match in _NAMED.finditer(word):
        if match.start() < at or not (_is_secret(match[1]) or match[1].lower() in _HEADERS):
            continue
        end = _end_of_value(word, match)
        if end > match.end():
            shown += [word[at : match.end()], MASK]
            at = end
    return "".join([*shown, word[at:]])


def _end_of_value(word: str, match: re.Match[str]) -> int:
    """Where a value ends: an option's and a variable's with the word, a part's with the next one."""
    begin = match.end()
    if word[begin : begin + 1] in {'"', "'"}:
        closing = word.find(word[begin], begin + 1)
        return closing + 1 if closing > 0 else len(word)
    if match.start() == 0 and "=" in match[0]:
        return len(word)
    end = _END_OF_A_PART.search(word, begin)
    return end.start() if end else len(word)


def _without_logins(word: str) -> str:
    """Addresses without their passwords: ``postgres://shop:••••••@db/shop``."""
    scheme, *addresses = word.split("://")
    shown = [scheme]
    for address in addresses:
        end = _END_OF_AN_ADDRESS.search(address)
        login, sign, _host = address[: end.start() if end else len(address)].rpartition("@")
        shown.append(_login(login, scheme) + address[len(login) :] if sign else address)
        scheme = address
    return "://".join(shown)


def _login(login: str, scheme: str) -> str:
    """What stands before the host of an address, as it may be shown."""
    user, colon, secret = login.partition(":")
    if "/" in user or (secret.partition("/")[0].isdigit() and "/" in secret):
        return login  # a port and a path
    if colon:
        return f"{user}:{MASK}"
    return MASK if scheme.endswith(("https", "http")) else login
