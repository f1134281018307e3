"""The submodules of a commit: where each has its repository, by what .gitmodules says. No I/O."""

from collections.abc import Mapping
from urllib.parse import urlsplit


def addresses(settings: Mapping[str, str], parent: str) -> dict[str, str]:
    """By its path, the address of each submodule that ``settings`` (of .gitmodules) name.

    A relative one begins at the address of the repository itself, ``parent``; one that leads above it is left out.
    """
    found: dict[str, dict[str, str]] = {}
    for key, value in settings.items():
        section, _dot, rest = key.partition(".")
        name, _dot, field = rest.rpartition(".")
        if section == "submodule" and name:
            found.setdefault(name, {})[field] = value
    whole = {each["path"]: absolute(each["url"], parent) for each in found.values() if {"path", "url"} <= each.keys()}
    return {path: url for path, url in whole.items() if url}


def absolute(url: str, parent: str) -> str:
    """The address that ``url`` means in a repository at ``parent``; empty where it leads out of the host."""
    if not url.startswith(("./", "../")):
        return url
    beginning, separator, path = _parts(parent)
    folders = path.rstrip("/").split("/")
    while url.startswith(("./", "../")):
        step, _slash, url = url.partition("/")
        if step == "..":
            if not any(folders):
                return ""
            folders.pop()
    return f"{beginning}{separator}{'/'.join([*folders, url.strip('/')])}"


def _parts(address: str) -> tuple[str, str, str]:
    """An address cut before its path: the host, what separates it from the path, and the path."""
    if "://" in address:
        url = urlsplit(address)
        return f"{url.scheme}://{url.netloc}", "/", url.path.strip("/")
    if address.startswith("/"):
        return "", "/", address.strip("/")
    host, _colon, path = address.partition(":")
    return host, ":", path
