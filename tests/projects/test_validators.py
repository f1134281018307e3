"""What is let in as a git address, a branch, a variable or a rollout plan, and what is not."""

import pytest
from django.core.exceptions import ValidationError

from projects.validators import (
    batch_numbers,
    validate_batches,
    validate_git_url,
    validate_header,
    validate_ref,
    validate_relative_folder,
    validate_shared_paths,
    validate_variable_name,
)
from servers.validators import PathValidator, validate_host


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.com/shop.git",
        "https://user@git.example.com:8443/a/b",
        "ssh://git@git.example.com:2222/shop.git",
        "git@git.example.com:team/shop.git",
        "/srv/git/shop.git",
        "file:///srv/git/shop.git",
    ],
)
def test_usual_git_addresses_are_taken(url, settings):
    settings.DEPLOYER_ALLOW_LOCAL_GIT = True
    validate_git_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch /tmp/x",
        "-u./payload",
        "ext::sh -c id",
        "http://git.example.com/shop.git",
        "git://git.example.com/shop.git",
        "https://user:secret@git.example.com/shop.git",
        "ssh://-oProxyCommand=id/x",
        "-oProxyCommand=id:x",
        "https://git.example.com/",
        "https:///shop.git",
        "https://git.example.com/a\nb",
        "host::path",
        "just-a-name",
        "https://git.example.com:99999/x",
    ],
)
def test_hostile_and_broken_git_addresses_are_refused(url, settings):
    settings.DEPLOYER_ALLOW_LOCAL_GIT = True
    with pytest.raises(ValidationError):
        validate_git_url(url)


@pytest.mark.parametrize("url", ["/srv/git/shop.git", "file:///srv/git/shop.git"])
def test_local_repositories_need_the_setting(url, settings):
    settings.DEPLOYER_ALLOW_LOCAL_GIT = False
    with pytest.raises(ValidationError, match="DEPLOYER_ALLOW_LOCAL_GIT"):
        validate_git_url(url)


@pytest.mark.parametrize("name", ["main", "feature/x-1", "v1.2.3", "a" * 40, "main;id", "$(id)", "ümlaut", "#1"])
def test_names_that_git_allows_are_taken(name):
    validate_ref(name)


@pytest.mark.parametrize(
    "name",
    ["", "-x", "--upload-pack=x", "a..b", "a b", "a\nb", "a\x00", "x.lock", "a//b", "/a", "a/", "@", "a:b"],
)
def test_names_that_git_refuses_are_refused(name):
    with pytest.raises(ValidationError):
        validate_ref(name)


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "A;B", "é", "IFS", "UID", "DEPLOY_ID", "DEPLOYER_RUN"])
def test_variables_that_a_shell_cannot_take_are_refused(name):
    with pytest.raises(ValidationError):
        validate_variable_name(name)


@pytest.mark.parametrize("path", ["/srv/shop", "/srv/a b/'x'", "~/shop", "/$(id)"])
def test_paths_are_taken_as_they_are(path):
    PathValidator()(path)


@pytest.mark.parametrize("path", ["srv/shop", "/", "//", "/srv/../etc", "/a\nb", "/a\x00", "~", "~/", "~root/x", "."])
def test_paths_that_lead_elsewhere_are_refused(path):
    with pytest.raises(ValidationError):
        PathValidator()(path)


@pytest.mark.parametrize("folder", ["/dist", "../dist", "a/../../b", "a\nb"])
def test_output_folders_outside_the_repository_are_refused(folder):
    with pytest.raises(ValidationError):
        validate_relative_folder(folder)


@pytest.mark.parametrize("host", ["web-1.example.com", "10.0.0.1", "::1", "web_1"])
def test_hosts_are_taken(host):
    validate_host(host)


@pytest.mark.parametrize(
    "host", ["", "-oProxyCommand=id", "a b", "a;b", "a/b", "user@host", "a..b", "host:22", "x" * 300]
)
def test_what_is_no_host_is_refused(host):
    with pytest.raises(ValidationError):
        validate_host(host)


@pytest.mark.parametrize("text", ["", "0", "-1", "101%", "x", "1,,2", "1 2", "50%%"])
def test_batches_that_cannot_be_read_are_refused(text):
    with pytest.raises(ValidationError):
        validate_batches(text)


@pytest.mark.parametrize(
    ("text", "servers", "expected"),
    [
        ("100%", 3, [1, 1, 1]),
        ("1", 3, [1, 2, 3]),
        ("1, 25%, 100%", 8, [1, 2, 3, 3, 3, 3, 3, 3]),
        ("2, 3", 9, [1, 1, 2, 2, 2, 3, 3, 3, 4]),
        ("10%", 4, [1, 2, 3, 4]),
        ("50%", 5, [1, 1, 1, 2, 2]),
        ("1, 10%", 3, [1, 2, 3]),
        ("100%", 0, []),
    ],
)
def test_every_server_has_its_batch(text, servers, expected):
    assert batch_numbers(text, servers) == expected


@pytest.mark.parametrize("paths", ["", "uploads/, log/, .env", "a/b\r\na/c\r\n", "$(id)/, a b/'x'", "...", "a,"])
def test_shared_paths_inside_a_release_are_taken(paths):
    validate_shared_paths(paths)


@pytest.mark.parametrize(
    "paths", ["/etc", "../x", "a/../../b", ".", "./", "a/./b", "-rf", "a, a/b", "a/, a", "a\x00", "a//b"]
)
def test_shared_paths_that_lead_elsewhere_or_into_each_other_are_refused(paths):
    with pytest.raises(ValidationError):
        validate_shared_paths(paths)


@pytest.mark.parametrize("value", ["X-Release: {release}", "Server:nginx", 'ETag: "é: b"'])
def test_a_header_is_a_name_and_a_text(value: str) -> None:
    validate_header(value)


@pytest.mark.parametrize(
    "value",
    [
        "X-Release",
        "X-Release:",
        "X-Release: ",
        ": x",
        "X Release: x",
        "X-Ré: x",
        "A: b\r\nEvil: c",
        "A: b\x00",
        "A:\tb",
    ],
)
def test_what_is_no_header_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        validate_header(value)
