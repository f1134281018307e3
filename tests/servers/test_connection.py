"""What a connection test promises, in one go and stage by stage, against real OpenSSH servers."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from servers.connection import ConnectionTest, Stage, try_connection
from servers.models import Credential, Server
from tests.factories import make_credential, make_group, make_server, make_user
from tests.parts.programs import wait_until
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db(transaction=True)

MakeSshd = Callable[..., OpenSSHServer]


def by_stages(server: Server) -> list[tuple[str, str]]:
    """Level and machine of each step, each stage taken by a test of its own as separate requests do."""
    taken: list[tuple[str, str]] = []
    for number in range(len(ConnectionTest(server).stages)):
        with ConnectionTest(Server.objects.get(pk=server.pk)) as test:
            steps = test.take(number)
        taken += [(step.level, step.server.name) for step in steps]
        if steps[-1].level == "failed":
            break
    return taken


def connections_to(sshd: OpenSSHServer) -> int:
    """How often somebody has connected; it is connected to once when it is started."""
    wait_until(lambda: "Connection from" in sshd.log, "sshd to log the first connection")
    return sshd.log.count("Connection from")


def test_taken_one_by_one_or_in_one_go_the_steps_are_the_same(make_sshd: MakeSshd) -> None:
    door, inner = make_sshd(), make_sshd()
    server = make_server(inner, name="inner", jump_host=make_server(door, name="door"))
    try_connection(server)  # the keys are pinned
    told = [(step.level, step.server.name) for step in try_connection(server).steps]
    assert told == [("ok", "door")] * 4 + [("ok", "inner")] * 6
    assert by_stages(server) == told


def test_in_one_go_each_machine_is_connected_to_once(make_sshd: MakeSshd) -> None:
    sshd = make_sshd()
    before = connections_to(sshd)
    assert try_connection(make_server(sshd)).ok
    assert connections_to(sshd) - before == sshd.log.count("Accepted publickey") == 1


def test_only_one_connection_of_a_test_by_stages_goes_without_a_login(make_sshd: MakeSshd) -> None:
    sshd = make_sshd()
    before = connections_to(sshd)
    by_stages(make_server(sshd))
    assert connections_to(sshd) - before == sshd.log.count("Accepted publickey") + 1


def test_a_name_is_looked_up_first_and_an_address_is_not(sshd: OpenSSHServer) -> None:
    named = make_server(sshd, host="localhost")
    first = try_connection(named).steps[0]
    assert (first.level, first.what.split()[:2]) == ("ok", ["localhost", "resolves"])
    assert Stage.NAME not in {stage for _hop, stage in ConnectionTest(make_server(sshd)).stages}


def test_a_name_that_nobody_knows_ends_the_test_with_why_and_what_to_do() -> None:
    report = try_connection(make_server(host="no-such-host.invalid"))
    assert [step.level for step in report.steps] == ["failed"]
    assert "no-such-host.invalid" in report.steps[0].why
    assert report.steps[0].remedy


def test_a_wrong_password_fails_the_login_after_the_port_and_the_key(sshd: OpenSSHServer) -> None:
    wrong = make_credential(username=sshd.username, kind=Credential.Kind.PASSWORD, password="wrong")
    server = make_server(sshd, credential=wrong)
    steps = try_connection(server).steps
    assert [step.level for step in steps] == ["ok", "ok", "notice", "failed"]
    assert wrong.name in steps[-1].why
    server.refresh_from_db()
    assert server.connection_status == "offline"


def test_a_changed_key_ends_the_test_before_anything_is_sent_there(make_sshd: MakeSshd) -> None:
    sshd = make_sshd()
    server = make_server(sshd)
    try_connection(server)
    sshd.change_host_key()
    logins = sshd.log.count("Accepted publickey")
    steps = try_connection(Server.objects.get(pk=server.pk)).steps
    assert [step.level for step in steps] == ["ok", "ok", "failed"]
    assert steps[-1].other_key
    assert sshd.log.count("Accepted publickey") == logins


def test_the_changed_key_of_a_jump_host_is_told_of_the_jump_host_at_every_stage(make_sshd: MakeSshd) -> None:
    door, inner = make_sshd(), make_sshd()
    jump = make_server(door, name="door")
    server = make_server(inner, name="inner", jump_host=jump)
    assert try_connection(server).ok
    door.change_host_key()
    for number in range(1, len(ConnectionTest(server).stages)):
        with ConnectionTest(Server.objects.get(pk=server.pk)) as test:
            step = test.take(number)[-1]
        assert (step.level, step.other_key, step.server) == ("failed", True, jump), number


def test_a_jump_host_that_does_not_forward_is_named_with_what_to_do(make_sshd: MakeSshd) -> None:
    door, inner = make_sshd("AllowTcpForwarding no"), make_sshd()
    report = try_connection(make_server(inner, jump_host=make_server(door)))
    assert "AllowTcpForwarding" in report.steps[-1].why
    assert "sshd_config" in report.steps[-1].remedy


def test_a_program_that_is_missing_is_named_with_what_to_do(make_sshd: MakeSshd) -> None:
    sshd = make_sshd()
    tools = sshd.home / "few"
    tools.mkdir()
    for name in ("id", "uname", "tar", "gzip", "readlink", "mv", "grep", "mkfifo", "setsid", "flock", "zstd"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    server = make_server(sshd)
    sshd._extra = f"SetEnv HOME={sshd.home} PATH={tools}"
    sshd.restart()
    report = try_connection(server)
    assert report.ok
    missing = [step for step in report.steps if step.level == "warning"]
    assert [step.what for step in missing] == ["bash is not installed there"]
    assert "bash is not installed there: deployments need it. Install it." in str(report)


def test_what_a_server_says_of_itself_is_shown_as_text(make_sshd: MakeSshd, client: Client) -> None:
    client.force_login(make_user())
    sshd = make_sshd("VersionAddendum <script>alert(1)</script>")
    page = client.post(reverse("server_test", args=[make_server(sshd).pk])).content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


def test_a_credential_that_no_key_opens_is_a_step_and_no_error_page(sshd: OpenSSHServer, client: Client) -> None:
    client.force_login(make_user())
    server = make_server(sshd)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE servers_credential SET private_key = 'what no key opens'")
    for name in ("server_test", "server_test_briefly"):
        page = client.post(reverse(name, args=[server.pk]))
        assert page.status_code == 200
        assert "cannot be read" in page.content.decode()


def test_a_stage_that_there_is_not_is_not_found(client: Client, sshd: OpenSSHServer) -> None:
    client.force_login(make_user())
    assert client.post(reverse("server_test_stage", args=[make_server(sshd).pk, 99])).status_code == 404


def test_without_a_session_a_part_of_a_page_asks_for_the_whole_page(client: Client, sshd: OpenSSHServer) -> None:
    server = make_server(sshd)
    answer = client.post(reverse("server_test_stage", args=[server.pk, 0]), headers={"HX-Request": "true"})
    assert answer["HX-Refresh"] == "true"
    server.refresh_from_db()
    assert server.connection_status == "untested"


def test_all_that_a_list_shows_are_tested_and_nothing_else(client: Client, sshd: OpenSSHServer) -> None:
    client.force_login(make_user())
    good, bad, other = make_server(sshd), make_server(host="127.0.0.1", port=1), make_server(sshd)
    group = make_group(good, bad)
    page = client.post(f"{reverse('servers_test')}?group={group.pk}", follow=True).content.decode()
    assert "2 servers were tested: 1 online." in page
    for server in (good, bad, other):
        server.refresh_from_db()
    assert [good.connection_status, bad.connection_status, other.connection_status] == ["online", "offline", "untested"]
