"""What a server may want of a login, and that whatever cannot work is said at once: with why, and what to do."""

import time
from collections.abc import Callable, Iterator

import pytest

from servers.connection import try_connection
from servers.errors import IncompatibleError, LoginRefusedError, NoSessionError
from servers.models import Server
from servers.ssh.shell import connect
from tests.factories import make_credential, make_server
from tests.parts.account import Account, can_be_made
from tests.parts.sshd import OpenSSHServer, as_login_shell
from tests.parts.strict import StrictServer

pytestmark = pytest.mark.django_db(transaction=True)

MakeSshd = Callable[..., OpenSSHServer]
#: Well below the time limit of a login: a refusal is not waited for.
AT_ONCE = 10.0


@pytest.fixture
def make_account() -> Iterator[Callable[[OpenSSHServer], Account]]:
    if not can_be_made():
        pytest.skip("a user with a password can be made by root only")
    made: list[Account] = []

    def make(sshd: OpenSSHServer) -> Account:
        made.append(Account(sshd))
        return made[-1]

    yield make
    for account in made:
        account.close()


def server_of(sshd: OpenSSHServer, account: Account, **values: str) -> Server:
    return make_server(sshd, credential=make_credential(sshd, username=account.name, **values))


@pytest.mark.parametrize("order", ["publickey,password", "password,publickey"])
def test_a_server_that_wants_key_and_password_gets_both(make_sshd: MakeSshd, make_account, order: str) -> None:
    sshd = make_sshd(f"AuthenticationMethods {order}")
    account = make_account(sshd)
    report = try_connection(server_of(sshd, account, password=account.password))
    assert report.ok, str(report)
    assert any("with the key and the password of" in step.what for step in report.steps)


def test_a_password_that_is_asked_for_by_pam_is_given(make_sshd: MakeSshd, make_account) -> None:
    sshd = make_sshd(
        "UsePAM yes\nKbdInteractiveAuthentication yes\nAuthenticationMethods publickey,keyboard-interactive:pam"
    )
    account = make_account(sshd)
    report = try_connection(server_of(sshd, account, password=account.password))
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("password", "said", "remedy"),
    [
        ("", "it accepted the key of credential “{}” for user “{}” and wants a password too", "Enter the password"),
        ("wrong", "it does not accept the password of credential “{}” for user “{}”", "Correct the password"),
    ],
)
def test_a_second_step_that_the_credential_lacks_is_said_at_once(
    make_sshd: MakeSshd, make_account, password: str, said: str, remedy: str
) -> None:
    sshd = make_sshd("AuthenticationMethods publickey,password")
    account = make_account(sshd)
    server = server_of(sshd, account, password=password)
    begun = time.monotonic()
    with pytest.raises(LoginRefusedError) as caught:
        connect(server)
    assert time.monotonic() - begun < AT_ONCE
    assert said.format(server.credential, account.name) in str(caught.value)
    assert remedy in str(caught.value)


@pytest.fixture
def make_strict() -> Iterator[Callable[..., StrictServer]]:
    made: list[StrictServer] = []

    def make(*wants: str, asks: tuple[str, ...] = ()) -> StrictServer:
        made.append(StrictServer(wants, asks))
        return made[-1]

    yield make
    for server in made:
        server.close()


def at(strict: StrictServer, sshd: OpenSSHServer, **values: str) -> Server:
    """Somebody with a key, at that server."""
    credential = make_credential(sshd, name="web-key", username="deploy", **values)
    return make_server(host=strict.host, port=strict.port, credential=credential)


@pytest.mark.parametrize(
    ("wants", "asks", "password", "said"),
    [
        (
            ("publickey", "keyboard-interactive"),
            ("Verification code: ",),
            "secret",
            "it accepted the key of credential “web-key” for user “deploy”; it asks for “Verification code”",
        ),
        (
            ("publickey", "keyboard-interactive"),
            ("Password: ", "One-time password (OATH) for `deploy': "),
            "secret",
            "it asks for “One-time password (OATH) for `deploy'”, which only a person can answer",
        ),
        (
            ("publickey", "keyboard-interactive"),
            ("Password: ", "New password: "),
            "secret",
            "it asks for “New password”, which only a person can answer",
        ),
        (
            ("publickey", "keyboard-interactive"),
            ("Password: ",),
            "",
            "it accepted the key of credential “web-key” for user “deploy” and wants a password too",
        ),
        (
            ("publickey", "hostbased"),
            (),
            "secret",
            "it accepted the key of credential “web-key” for user “deploy” and wants hostbased too",
        ),
        (("keyboard-interactive",), ("Token\x1b[31m: ",), "secret", "refused the login: it asks for “Token [31m”"),
    ],
)
def test_what_no_credential_answers_is_named_at_once(
    make_strict, sshd: OpenSSHServer, wants, asks, password: str, said: str
) -> None:
    strict = make_strict(*wants, asks=asks)
    begun = time.monotonic()
    with pytest.raises(LoginRefusedError) as caught:
        connect(at(strict, sshd, password=password))
    assert time.monotonic() - begun < AT_ONCE
    assert said in str(caught.value)
    assert len(strict.logins) == 1
    assert strict.logins[0].answers == (["secret"] if asks[:1] == ("Password: ",) and password else [])


@pytest.mark.parametrize(
    ("wants", "asks"),
    [
        (("keyboard-interactive",), ("Password: ",)),
        (("publickey", "keyboard-interactive"), ("deploy@web's password: ",)),
        (("password", "publickey"), ()),
    ],
)
def test_a_server_that_starts_no_command_is_told_from_a_lost_link(
    make_strict, sshd: OpenSSHServer, wants, asks
) -> None:
    strict = make_strict(*wants, asks=asks)
    with connect(at(strict, sshd, password="secret")) as shell, pytest.raises(NoSessionError) as caught:
        shell.capture("true")
    assert "it does not start a command" in str(caught.value)
    assert strict.logins[0].answers == ["secret"]


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        ("/usr/sbin/nologin", "This account is currently not available"),
        ("rbash", "rbash: line 1: exec: restricted"),
        ("/bin/false", "no answer"),
        ("sleep", "no answer within 2 seconds"),
    ],
)
def test_a_login_that_runs_no_command_is_said_with_what_to_do(
    make_sshd: MakeSshd, monkeypatch: pytest.MonkeyPatch, shell: str, said: str
) -> None:
    monkeypatch.setattr("servers.connection.COMMAND_TIMEOUT", 2)
    line = "ForceCommand exec sleep 1000" if shell == "sleep" else as_login_shell(shell)
    report = try_connection(make_server(make_sshd(line)))
    assert not report.ok
    assert f"did not run a command: {said}" in str(report)
    assert "Give the login a shell that runs commands" in str(report)


def test_a_server_with_the_newer_name_of_a_key_exchange_alone_is_connected_to(make_sshd: MakeSshd) -> None:
    assert try_connection(make_server(make_sshd("KexAlgorithms curve25519-sha256"))).ok


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "Ciphers chacha20-poly1305@openssh.com",
            "of ciphers, it offers chacha20-poly1305@openssh.com and deployer aes128-gcm@openssh.com, aes256-gcm",
        ),
        (
            "KexAlgorithms sntrup761x25519-sha512@openssh.com",
            "of key exchanges, it offers sntrup761x25519-sha512@openssh.com and deployer curve25519-sha256, ",
        ),
        ("MACs umac-64@openssh.com", "of MACs, it offers umac-64@openssh.com and deployer hmac-sha2-256, "),
    ],
)
def test_algorithms_that_are_not_shared_are_named_from_both_sides(make_sshd: MakeSshd, line: str, said: str) -> None:
    server = make_server(make_sshd(line))
    with pytest.raises(IncompatibleError) as caught:
        connect(server)
    assert said in str(caught.value)
    assert "sshd_config (KexAlgorithms, HostKeyAlgorithms, Ciphers, MACs)" in str(caught.value)
    step = try_connection(server).steps[-1]
    assert (step.level, step.other_key) == ("failed", False)  # its host key is not what is wrong
