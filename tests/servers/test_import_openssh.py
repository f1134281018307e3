"""Promises of the import of OpenSSH configs: each server is the one that ssh itself would reach, or it is said."""

import re
import subprocess
from pathlib import Path

import pytest

from servers.imports import openssh
from servers.imports.comparing import ImportPlan
from servers.imports.hops import Hop
from servers.imports.listing import Found, Listing
from tests.factories import make_credential, make_server, make_user

#: Configs in the shapes that people publish; ssh is asked about each server in each of them.
CONFIGS = {
    "a host alone": "Host web\n",
    "host name, user and port": "Host web\n  HostName web.example.com\n  User deploy\n  Port 2222\n",
    "the first value wins": "Host web\n  User one\nHost web\n  User two\n  Port 99\n",
    "a default before all": "User first\nPort 2200\nHost web\n  User second\n",
    "a default behind all": "Host web\n  Port 1\nHost *\n  Port 2\n  User all\n",
    "wildcards": "Host web-?\n  User one\nHost web-1\nHost web-22\nHost web-*\n  User many\n",
    "an exception": "Host * !web-2\n  User most\nHost web-1\nHost web-2\nHost *\n  Port 77\n",
    "an exception first": "Host !web-2 web-*\n  User most\nHost web-1 web-2\n",
    "only an exception": "Host !web-1\n  User nobody\nHost web-1 web-2\n",
    "two names on a line": "Host web www.example.com\n  HostName web.internal\n  User x\n",
    "brackets in a pattern": "Host web[1]\n  User x\nHost *[1]\n  Port 9\n",
    "large letters in keywords": "HOST web\n  hostname a.example.com\n  PORT 23\n  uSeR deploy\n",
    "large letters in names": "Host Web\n  User x\nHost web\n  User y\nHost W*\n  Port 9\n",
    "a host in large letters": "Host web\n  HostName WEB.Example.COM\n",
    "equals signs": "Host=web\n  HostName=a.example.com\n  Port = 23\n  User =deploy\n  ProxyJump= gate\n",
    "tabs": "Host\tweb\n\tHostName\ta.example.com\n\tPort\t\t23\n",
    "comments": "# Host no\nHost web # the web\n  # User no\n  HostName a.example.com # there\n  User x #y\n",
    "a hash in a user": "Host web\n  User svc#1\n",
    "a quoted hash": 'Host web\n  User "svc #1"\n',
    "a domain in a user": "Host web\n  User CORP\\jane\n",
    "a doubled backslash": "Host web\n  User CORP\\\\jane\n",
    "a path of Windows": "Host web\n  IdentityFile C:\\Users\\jane\\.ssh\\id_ed25519\n  User jane\n",
    "a user of a mail address": "Host web\n  User jane@example.com\n",
    "quotes": 'Host "web"\n  HostName "a.example.com"\n  User "jane doe"\n',
    "single quotes": "Host 'web'\n  User 'jane doe'\n",
    "a quote in a word": 'Host web\n  User ja"ne d"oe\n',
    "an escaped space": "Host web\n  User jane\\ doe\n",
    "an escaped quote": 'Host web\n  User "ja\\"ne"\n',
    "a token": "Host web-1 web-2\n  HostName %h.internal.example.com\n",
    "a token by a wildcard": "Host *.lan\n  HostName %h.example.com\nHost a.lan b.lan\n",
    "a per cent sign": "Host web\n  HostName fe80::1%%eth0\n",
    "an address": "Host web\n  HostName 192.0.2.7\n",
    "an address of IPv6": "Host web\n  HostName 2001:db8::7\n  Port 2222\n",
    "a chain of host names": "Host web\n  HostName middle\nHost middle\n  HostName end.example.com\n",
    "a jump host": "Host gate\n  HostName gate.example.com\n  User ops\nHost web\n  ProxyJump gate\n",
    "a jump host with user and port": "Host gate\nHost web\n  ProxyJump jumper@gate:2222\n",
    "a jump host as an address": "Host web\n  ProxyJump ops@[2001:db8::1]:2222\n",
    "a jump host as a URI": "Host web\n  ProxyJump ssh://ops@gate.example.com:2222\n",
    "two jump hosts": "Host a\nHost b\n  ProxyJump a\nHost web\n  ProxyJump a,b\n",
    "a jump host for all but itself": "Host gate\nHost web-*\n  ProxyJump gate\nHost web-1 web-2\n",
    "no jump host after all": "Host web\n  ProxyJump none\nHost *\n  ProxyJump gate\n",
    "no command after all": "Host web\n  ProxyCommand none\nHost *\n  ProxyJump gate\n",
    "a command before a jump host": "Host web\n  ProxyCommand ssh -W %h:%p gate\n  ProxyJump other\n",
    "a jump host with a comment": "Host web\n  ProxyJump gate # by way of\n",
    "a command": "Host web\n  ProxyCommand ssh -q -W %h:%p gate\n",
    "a command with options": "Host web\n  ProxyCommand ssh -o Port=2222 -o User=jumper -W %h:%p gate\n",
    "a command with letters": "Host web\n  Port 24\n  ProxyCommand ssh -aqp 2222 -l jumper gate -W [%h]:%p\n",
    "a command with both": "Host web\n  ProxyCommand ssh -l first -oUser=second third@gate -W %h:%p\n",
    "a command with the user's token": "Host web\n  User deploy\n  ProxyCommand ssh %r@gate -W %h:%p\n",
    "a command with silenced messages": "Host web\n  ProxyCommand exec ssh gate -W %h:%p 2> /dev/null\n",
    "a command that jumps": "Host web\n  ProxyCommand ssh -J first -W %h:%p second\n",
    "a command by its path": "Host web\n  ProxyCommand /usr/bin/ssh -W %h:%p gate\n",
    "wildcards of a jump host": "Host gate.*\n  User ops\n  Port 2222\nHost web\n  ProxyJump gate.example.com\n",
    "the default of a jump host": "Port 2200\nHost web\n  Port 22\n  ProxyCommand ssh -W %h:%p gate\n",
    "much else": "Host web\n  ForwardAgent yes\n  IdentitiesOnly yes\n  LocalForward 80 localhost:80\n  SendEnv LANG\n"
    "  ServerAliveInterval 60\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  User x\n",
    "spaces at the ends": "Host web  \n  User x\t \n\n   \nHost other\r\n  User y\r\n",
}


def told_by_ssh(config: Path, *arguments: str) -> dict[str, str]:
    """What ssh itself would do; the first value of each word."""
    said = subprocess.run(["ssh", "-G", "-F", config, *arguments], check=True, capture_output=True, text=True).stdout
    options: dict[str, str] = {}
    for line in said.splitlines():
        word, _space, value = line.partition(" ")
        options.setdefault(word, value)
    return options


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_read_as_ssh_itself_reads_it(name: str, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_bytes(CONFIGS[name].encode())
    nobody = told_by_ssh(Path("/dev/null"), "x")["user"]
    for found in openssh.read(CONFIGS[name]).servers:
        options = told_by_ssh(file, "--", found.name)
        assert not found.problem
        assert (found.host, found.port or "22", found.username or nobody) == (
            options["hostname"],
            options["port"],
            options["user"],
        )
        assert found.key_file in ("", options["identityfile"])
        assert hops(file, found) == real_hops(file, found, options)


def hops(config: Path, found: Found) -> list[tuple[str, str, str]]:
    """Where each hop is, by what the import made of it: user, host and port."""
    places = []
    for jump in found.jumps:
        hop = Hop.of(jump)
        login = [*(["-l", hop.user] if hop.user else []), *(["-p", hop.port] if hop.port else [])]
        place = told_by_ssh(config, *login, "--", hop.host)
        places.append((place["user"], place["hostname"], place["port"]))
    return places


def real_hops(config: Path, found: Found, options: dict[str, str]) -> list[tuple[str, str, str]]:
    """Where ssh would go before ``found``: it is given its own command line, or the words of the jump host."""
    command = options.get("proxycommand", "none")
    if command != "none":
        for token, value in (("%h", found.host), ("%p", found.port or "22"), ("%r", found.username)):
            command = command.replace(token, value)
        words = command.removeprefix("exec ").replace("2> /dev/null", "").split()[1:]
        place = told_by_ssh(config, *words)
        first = place.get("proxyjump", "none")
        before = [first] if first != "none" else []
    else:
        jumps = options.get("proxyjump", "none")
        if jumps == "none":
            return []
        *before, last = jumps.split(",")
        place = told_by_ssh(config, *login(last))
    places = [told_by_ssh(config, *login(each)) for each in before] + [place]
    return [(each["user"], each["hostname"], each["port"]) for each in places]


def login(jump: str) -> list[str]:
    """The words by which ssh goes to a jump host; it takes no address of IPv6 as a URI."""
    found = re.fullmatch(r"(?:(.*)@)?(?:\[(.*)\]|([^:]*))(?::(\d+))?", jump)
    assert found is not None
    user, address, name, port = found.groups()
    return [*(["-l", user] if user else []), *(["-p", port] if port else []), "--", address or name]


def test_there_are_fifty_configs() -> None:
    assert len(CONFIGS) >= 50


@pytest.mark.parametrize(
    "command",
    [
        "ssh.exe -W %h:%p ops@gate",
        r"C:\Windows\System32\OpenSSH\ssh.exe -W %h:%p ops@gate",
        r'"C:\Program Files\OpenSSH\ssh.exe" -W %h:%p ops@gate',
        "SSH.EXE -q -W %h:%p ops@gate",
    ],
)
def test_the_ssh_of_windows_is_one_as_well(command: str) -> None:
    found = openssh.read(f"Host web\n  ProxyCommand {command}\n").servers[0]
    assert (found.jumps, found.problem) == (["ops@gate"], "")


@pytest.mark.parametrize(
    "way",
    [
        "ProxyCommand nc -X 5 -x proxy:1080 %h %p",
        "ProxyCommand ssh gate nc %h %p",
        "ProxyCommand ssh -W other:22 gate",
        "ProxyCommand ssh -F other -W %h:%p gate",
        "ProxyCommand ssh -o HostName=elsewhere -W %h:%p gate",
        "ProxyCommand ssh -o 'ProxyCommand=nc %h %p' -W %h:%p gate",
        "ProxyCommand ssh -D 1080 -W %h:%p gate",
        "ProxyCommand ssh -W %h:%p gate; touch /tmp/x",
        "ProxyCommand ssh -W %h:%p $(gate)",
        "ProxyCommand ssh -W %h:%p %L",
        "ProxyCommand ssh -W %h:%p %r@gate",
        'ProxyCommand "ssh -W %h:%p gate"',
        "ProxyCommand cloudflared access ssh --hostname %h",
        "ProxyJump %L",
        "ProxyJump " + ",".join(["a"] * 40),
        "ProxyCommand ssh -W %h:%p " + "a" * 3000,
    ],
)
def test_a_way_that_is_not_a_jump_host_is_said_and_not_taken(way: str) -> None:
    found = openssh.read(f"Host web\n  {way}\n").servers[0]
    assert "is not a jump host" in found.problem
    assert not found.jumps


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Match host web", "“Match host web” was left out"),
        ("Include conf.d/*", "“Include conf.d/*” is not followed"),
        ("CanonicalizeHostname yes", "host names are taken as they are written"),
        ("User two words", "does not have one value"),
        ("User", "was left out"),
        ('User "open', "a quotation mark is missing"),
    ],
)
def test_what_is_left_out_of_a_config_is_said_with_its_line(line: str, said: str) -> None:
    listing = openssh.read(f"Host web\n  Port 23\n{line}\n")
    assert [found.port for found in listing.servers] == ["23"]
    (note,) = listing.notes
    assert said in note
    assert "Line 3" in note


def test_a_value_that_counts_for_many_servers_is_cut() -> None:
    names = " ".join(f"h{number}" for number in range(1000))
    listing = openssh.read(f"Host {names}\nHost *\n User {'u' * 100_000}\n HostName {'%h' * 50_000}\n")
    assert max(len(found.username) for found in listing.servers) <= 300
    assert max(len(found.host) for found in listing.servers) <= 300


# --- jump hosts that are named in other ways ---------------------------------------------------------


def rows(listing: Listing) -> dict[str, tuple[str, str, str]]:
    """State, jump host and reason of each server."""
    return {row.found.name: (row.state, row.jump_name, row.why) for row in ImportPlan(listing, make_user()).servers}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("gate", "way", "fits"),
    [
        ("User ops\n Port 22", "ProxyJump gate", True),
        ("User ops\n Port 22", "ProxyJump ops@gate", True),
        ("User ops\n Port 2222", "ProxyJump gate", True),
        ("User ops\n Port 22", "ProxyJump jumper@gate:2222", False),
        ("User ops\n Port 22", "ProxyJump gate:2222", False),
        ("User ops\n Port 22", "ProxyJump jumper@gate", False),
        ("User ops\n Port 22", "ProxyCommand ssh -o Port=2222 -o User=jumper -W %h:%p gate", False),
        ("User ops\n Port 22", "ProxyCommand ssh -o User=ops -W %h:%p gate", True),
        ("User ops\n HostName 192.0.2.1", "ProxyJump ops@192.0.2.1", True),
        ("User ops\n HostName 192.0.2.1", "ProxyJump jumper@192.0.2.1", False),
    ],
)
def test_a_jump_host_is_never_one_with_another_user_or_port(gate: str, way: str, fits: bool) -> None:
    found = rows(openssh.read(f"Host gate\n {gate}\nHost web\n {way}\n"))["web"]
    if fits:
        assert found == ("new", "gate", "")
    else:
        assert found[0] == "refused"
        assert "which has another user or port here" in found[2]


@pytest.mark.django_db
def test_a_jump_host_that_names_no_user_gets_the_one_that_it_is_reached_by() -> None:
    text = "Host web\n ProxyJump jumper@gate\nHost db\n ProxyJump other@gate\nHost gate\n"
    plan = ImportPlan(openssh.read(text), make_user())
    found = {row.found.name: row for row in plan.servers}
    assert (found["gate"].found.username, found["web"].state, found["db"].state) == ("jumper", "new", "refused")


@pytest.mark.django_db
def test_the_server_that_is_meant_may_be_here_under_another_name() -> None:
    make_server(name="jumper", host="gate.example.com", port=2222, credential=make_credential(username="jumper"))
    text = "Host gate\n HostName gate.example.com\n User ops\nHost web\n ProxyJump jumper@gate:2222\n"
    assert rows(openssh.read(text))["web"] == ("new", "jumper", "")
    other = "Host gate\n HostName gate.example.com\n Port 2222\n User ops\nHost web\n ProxyJump ops@gate\n"
    found = rows(openssh.read(other))
    assert "it is known here as jumper, with the user jumper" in found["gate"][2]
    assert "another user or port" in found["web"][2]


@pytest.mark.django_db
def test_what_lies_behind_the_second_name_of_a_server_is_reached_through_the_first() -> None:
    text = "Host gate bastion\n HostName 192.0.2.1\n User ops\nHost web\n ProxyJump bastion\nHost db\n ProxyJump gate\n"
    found = rows(openssh.read(text))
    assert found["bastion"][0] == "refused"
    assert "the same machine as gate" in found["bastion"][2]
    assert found["web"][:2] == found["db"][:2] == ("new", "gate")


@pytest.mark.django_db
def test_the_second_name_of_a_server_with_another_user_is_not_the_first() -> None:
    text = "Host gate\n HostName 192.0.2.1\n User ops\nHost root\n HostName 192.0.2.1\n User root\n"
    text += "Host web\n ProxyJump root\n"
    state, _jump, why = rows(openssh.read(text))["web"]
    assert state == "refused"
    assert "its jump host root cannot be imported" in why
