"""What leaves: to real receivers on this machine, once, tried again with growing pauses, and nowhere else."""

import hashlib
import hmac
import threading
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from django.utils import timezone

from deployer.models import Channel, Event, Notice
from deployer.notices import courier as courier_module
from deployer.notices.courier import Courier, choose, tidy
from deployer.notices.kinds.kind import Request
from deployer.notices.net import Outside
from deployer.notices.sending import PAUSES
from people.models import Entry
from projects.models import Variable
from tests.factories import make_deployment, make_project, make_user
from tests.notices.making import deliver_all, ended, make_channel, make_two, notice, told
from tests.parts.mailbox import MailServer
from tests.parts.programs import free_port
from tests.parts.sink import Reply, Sent, Sink

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

NOW = timezone.now()
SECOND = timedelta(seconds=1)


def status(row: Notice) -> str:
    row.refresh_from_db()
    return row.status


def test_a_notice_is_delivered_once(sink: Sink) -> None:
    channel = make_channel(sink)
    row = notice(channel, now=NOW)
    deliver_all(NOW)
    deliver_all(NOW + timedelta(days=1))
    assert status(row) == "sent"
    assert len(sink.sent) == 1
    assert "shop (Production): #12 failed" in sink.sent[0].json["text"]
    channel.refresh_from_db()
    assert (channel.last_ok, channel.last_answer) == (True, "HTTP 200: ok")


def test_an_end_reaches_its_receivers_with_servers_reason_and_link(
    sink: Sink, mail_server: MailServer, settings: Any
) -> None:
    settings.DEPLOYER_URL = "https://deploy.example.com"
    project, groups = make_two()
    events = [Event.FAILED]
    make_channel(sink, "webhook", events=events)
    make_channel(kind="mail", events=events)
    user = make_user(email="me@example.com")
    it = ended(project, groups, "failed", "The script ended with status 3.", created_by=user)
    deliver_all(timezone.now() + SECOND)
    document = sink.sent[0].json
    assert document["event"] == "failed"
    assert document["url"] == f"https://deploy.example.com/deployments/{it.pk}/"
    assert document["reason"] == "The script ended with status 3."
    assert len(document["servers"]) == 2
    assert sorted(mail_server.recipients) == [["me@example.com"], ["ops@example.com"]]
    letter = mail_server.letters[0]
    assert letter["Subject"] == f"{project.name} (Production): #{it.pk} failed"
    assert letter["Auto-Submitted"] == "auto-generated"
    text = letter.get_content()
    for part in (f"Launched by {user}.", groups[0].servers.first().name, "status 3", document["url"]):
        assert part in text


def test_the_text_is_in_the_language_of_the_channel(sink: Sink) -> None:
    notice(make_channel(sink, language="zh-hans"), now=NOW)
    deliver_all(NOW)
    assert "失败" in sink.sent[0].json["text"]


def test_mail_to_a_launcher_goes_only_if_no_channel_of_theirs_had_it(sink: Sink, mail_server: MailServer) -> None:
    project, groups = make_two()
    user = make_user(email="me@example.com")
    make_channel(sink, made_by=user, events=[Event.FAILED])
    ended(project, groups, created_by=user)
    deliver_all(timezone.now() + SECOND)
    assert [*Notice.objects.filter(user=user).values_list("status", "answer")] == [
        ("dropped", "A channel has told it.")
    ]
    assert not mail_server.letters
    sink.reply = lambda _sent: Reply(404)
    ended(project, groups, created_by=user)
    deliver_all(timezone.now() + SECOND)
    assert mail_server.recipients == [["me@example.com"]]


# --- what does not go well ------------------------------------------------------------------------


def test_a_dead_receiver_is_tried_again_with_growing_pauses_and_then_given_up() -> None:
    channel = make_channel(address={"url": f"http://127.0.0.1:{free_port()}/"})
    row = notice(channel, now=NOW)
    moment, pauses = NOW, []
    from ipaddress import ip_network

    from django.test import override_settings

    with override_settings(DEPLOYER_NOTICE_NETWORKS=[ip_network("127.0.0.1")]):
        for _try in PAUSES:
            deliver_all(moment)
            assert status(row) == "waiting"
            assert row.next_at is not None
            deliver_all(row.next_at - SECOND)  # too early
            pauses.append(row.next_at - moment)
            moment = row.next_at
        deliver_all(moment)
    assert status(row) == "failed"
    assert row.tries == len(PAUSES) + 1
    assert pauses == [*PAUSES] == sorted(PAUSES)
    channel.refresh_from_db()
    assert channel.last_ok is False
    assert "refused" in channel.last_answer


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        (400, "failed"),
        (403, "failed"),
        (404, "failed"),
        (410, "failed"),
        (429, "waiting"),
        (500, "waiting"),
        (503, "waiting"),
    ],
)
def test_an_answer_says_whether_it_is_worth_another_try(sink: Sink, answer: int, after: str) -> None:
    sink.reply = lambda _sent: Reply(answer, b"no <b>way</b>\x1b[31m")
    row = notice(make_channel(sink), now=NOW)
    deliver_all(NOW)
    assert status(row) == after
    assert row.answer == f"HTTP {answer}: no <b>way</b>\\x1b[31m"


def test_a_receiver_that_asks_for_time_gets_it_for_all_that_it_is_told(sink: Sink) -> None:
    sink.reply = lambda _sent: Reply(429, b"", {"Retry-After": "120"})
    channel = make_channel(sink)
    rows = [notice(channel, now=NOW), notice(channel, now=NOW)]
    deliver_all(NOW)
    assert len(sink.sent) == 1
    sink.reply = lambda _sent: Reply()
    deliver_all(NOW + 119 * SECOND)
    assert len(sink.sent) == 1
    deliver_all(NOW + 120 * SECOND)
    assert [status(row) for row in rows] == ["sent", "sent"]


@pytest.mark.parametrize("said", ["-1", "1e9", "9" * 400, "Fri, 27 Nov 2026 00:00:00 GMT", "²"])
def test_a_hostile_wish_for_time_is_not_heeded(sink: Sink, said: str) -> None:
    sink.reply = lambda _sent: Reply(503, b"", {"Retry-After": said})
    row = notice(make_channel(sink), now=NOW)
    deliver_all(NOW)
    assert status(row) == "waiting"
    assert row.next_at == NOW + PAUSES[0]


def test_a_slow_receiver_holds_up_no_other(sink: Sink) -> None:
    slow, go = make_channel(sink, address={"url": f"{sink.url}/slow"}), threading.Event()
    sink.reply = lambda sent: Reply(hold=go) if sent.path == "/slow" else Reply()
    first, second = notice(slow, now=NOW), notice(slow, now=NOW)
    others = [notice(make_channel(sink), now=NOW) for _number in range(3)]
    courier = Courier()
    courier.turn(NOW)
    for errand in [*courier._errands.values()]:
        if errand.notices[0].channel_id != slow.pk:
            errand.thread.join(30)
    assert [status(row) for row in others] == ["sent"] * 3
    assert [status(first), status(second)] == ["sending", "waiting"]
    courier.turn(NOW)
    assert status(second) == "waiting"  # one after the other
    go.set()
    courier.wait(30)
    deliver_all(NOW, courier)
    assert [status(first), status(second)] == ["sent", "sent"]


def test_a_receiver_that_never_lets_go_is_given_up_as_unknown(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    sink.reply = lambda _sent: Reply(hold=go)
    row = notice(make_channel(sink), now=NOW)
    courier = Courier()
    courier.turn(NOW)
    sink.came.wait(30)
    monkeypatch.setattr(courier_module, "GIVEN_UP", 0.0)
    courier.turn(NOW)
    assert status(row) == "unknown"
    assert row.next_at is not None  # something failed: once more
    go.set()
    for thread in courier._lost:
        thread.join(30)
    assert status(row) == "unknown"  # what it finds out now comes too late


@pytest.mark.parametrize(
    ("event", "again"), [("failed", True), ("drift", True), ("succeeded", False), ("launched", False)]
)
def test_what_was_cut_off_is_unknown_and_sent_once_more_where_it_matters(sink: Sink, event: str, again: bool) -> None:
    sink.reply = lambda _sent: Reply(cuts=True)
    row = notice(make_channel(sink, "webhook"), event, now=NOW)
    deliver_all(NOW)
    assert status(row) == "unknown"
    moment = NOW
    for _time in range(5):
        moment += timedelta(hours=4)
        deliver_all(moment)
    assert len(sink.sent) == 1 + again
    assert status(row) == "unknown"
    assert len({sent.json["id"] for sent in sink.sent}) == 1
    assert [sent.json["again"] for sent in sink.sent] == [False, True][: 1 + again]


def test_what_somebody_left_behind_is_unknown_and_sent_once_more_under_its_number(mail_server: MailServer) -> None:
    channel = make_channel(kind="mail")
    rows = [notice(channel, now=NOW), notice(channel, "succeeded", now=NOW)]
    for row in rows:  # a courier has begun, and is gone
        Notice.take([row.pk], NOW)
    numbers = [*Notice.objects.order_by("pk").values_list("message_id", flat=True)]
    deliver_all(NOW + Notice.LONGEST - SECOND)
    assert [status(row) for row in rows] == ["sending", "sending"]
    deliver_all(NOW + Notice.LONGEST + SECOND)
    deliver_all(NOW + Notice.LONGEST + PAUSES[0] + SECOND)
    assert [status(row) for row in rows] == ["sent", "unknown"]
    assert [letter["Message-ID"] for letter in mail_server.letters] == [f"<{numbers[0]}@example.com>"]
    assert "Sent once more" in mail_server.letters[0].get_content()


def test_nobody_is_waited_for_any_more(sink: Sink) -> None:
    sink.reply = lambda _sent: Reply(500)
    project, groups = make_two()
    it = make_deployment(project, *groups, branch="main")
    row = notice(make_channel(sink), Event.PAUSED, now=NOW, deployment=it)
    deliver_all(NOW)
    deliver_all(NOW + PAUSES[0])
    assert (status(row), row.answer) == ("dropped", "Nobody is waited for any more.")
    assert len(sink.sent) == 1


def test_a_channel_to_which_nothing_comes_through_is_paused_and_says_why(sink: Sink) -> None:
    sink.reply = lambda _sent: Reply(404, b"no_service")
    channel = make_channel(sink, "webhook")
    rows = [notice(channel, now=NOW) for _number in range(Channel.MOST_FAILURES + 2)]
    deliver_all(NOW)
    channel.refresh_from_db()
    assert not channel.is_active
    assert channel.paused_reason == "10 messages in a row were not delivered: HTTP 404: no_service"
    assert [status(row) for row in rows] == ["failed"] * 10 + ["dropped"] * 2
    assert Entry.objects.filter(kind="channel", number=channel.pk, act="changed").count() == 1


def test_a_test_is_sent_once_also_by_a_paused_channel(sink: Sink) -> None:
    sink.reply = lambda _sent: Reply(500)
    channel = make_channel(sink, is_active=False)
    row = notice(channel, Event.TEST, now=NOW, facts={"who": "ada"})
    deliver_all(NOW)
    assert (status(row), row.answer) == ("failed", "HTTP 500: ok")


# --- many at once ---------------------------------------------------------------------------------


def test_more_than_five_become_one_message(sink: Sink) -> None:
    channel = make_channel(sink)
    rows = [notice(channel, now=NOW, facts={"number": number}) for number in range(1, 41)]
    deliver_all(NOW)
    assert len(sink.sent) == 1
    text = sink.sent[0].json["text"]
    assert text.startswith("40 notices")
    assert "#1 failed" in text
    assert "and 10 more" in text
    assert {status(row) for row in rows} == {"sent"}


def test_after_five_in_a_minute_the_rest_of_it_becomes_one_message(sink: Sink) -> None:
    channel = make_channel(sink)
    for number in range(10):
        notice(channel, now=NOW + number * SECOND)
        deliver_all(NOW + number * SECOND)
    assert len(sink.sent) == 5
    deliver_all(NOW + 70 * SECOND)
    assert len(sink.sent) <= 10
    urgent = make_channel(sink)
    for _number in range(6):
        notice(urgent, Event.WAITING, now=NOW)
        deliver_all(NOW)
    assert sum("waits for approval" in sent.json["text"] for sent in sink.sent) == 6  # at once, however many


def test_a_program_is_told_each_by_itself(sink: Sink) -> None:
    channel = make_channel(sink, "webhook")
    for number in range(8):
        notice(channel, now=NOW, facts={"number": number})
    deliver_all(NOW)
    assert [sent.json["number"] for sent in sink.sent] == [*range(8)]


def test_what_belongs_to_a_train_becomes_one_message_after_five(sink: Sink) -> None:
    channel, moment = make_channel(sink), NOW
    for _number in range(5):
        notice(channel, now=moment, bundle="train 1")
        deliver_all(moment)
        moment += timedelta(minutes=2)
    rows = [notice(channel, now=moment, bundle="train 1") for _number in range(3)]
    assert choose(rows, moment) == []
    deliver_all(moment)
    assert len(sink.sent) == 5
    deliver_all(moment + courier_module.TRAIN + SECOND)
    assert len(sink.sent) == 6
    assert sink.sent[-1].json["text"].startswith("3 notices")


def test_settled_notices_go_after_a_month_and_no_others() -> None:
    channel = make_channel()
    old = [notice(channel, now=NOW, status=name) for name in ("sent", "failed", "dropped", "waiting", "sending")]
    tidy(NOW + timedelta(days=29))
    assert Notice.objects.count() == 5
    tidy(NOW + timedelta(days=31))
    assert {*Notice.objects.all()} == {*old[3:]}


# --- where nothing goes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "localhost",
        "0.0.0.0",  # noqa: S104
        "169.254.169.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[fe80::1]",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
        "224.0.0.1",
    ],
)
@pytest.mark.parametrize("kind", ["slack", "other"])
def test_nothing_goes_to_this_machine_or_its_network(host: str, kind: str) -> None:
    scheme = "json" if kind == "other" else "http"
    row = notice(make_channel(kind=kind, address={"url": f"{scheme}://{host}:9/hook"}), now=NOW)
    deliver_all(NOW)
    assert status(row) == "failed"
    assert "DEPLOYER_NOTICE_NETWORKS" in row.answer or (kind == "other" and "cannot read" in row.answer)


def test_an_administrator_allows_a_network(sink: Sink) -> None:
    row = notice(make_channel(sink), now=NOW)
    other = notice(make_channel(kind="other", address={"url": f"json://127.0.0.1:{sink.port}/x"}), now=NOW)
    deliver_all(NOW)
    assert [status(row), status(other)] == ["sent", "sent"]
    assert {sent.path for sent in sink.sent} == {"/hook", "/x"}


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(sink: Sink, code: int) -> None:
    other = Sink()
    try:
        sink.reply = lambda _sent: Reply(code, b"", {"Location": f"{other.url}/secret"})
        row = notice(make_channel(sink), now=NOW)
        any_other = notice(make_channel(kind="other", address={"url": f"json://127.0.0.1:{sink.port}/x"}), now=NOW)
        deliver_all(NOW)
        assert status(row) == "failed"
        assert status(any_other) == "waiting"
        assert "leads to another address" in row.answer
        assert not other.sent
    finally:
        other.stop()


def test_a_login_of_this_machine_is_not_sent(sink: Sink, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(file))
    Outside().ask(Request.json(f"{sink.url}/", {}))
    assert "Authorization" not in sink.sent[0].headers


def test_a_huge_answer_is_not_read_to_its_end(sink: Sink) -> None:
    sink.reply = lambda _sent: Reply(200, b"x" * 5_000_000)
    assert len(Outside().ask(Request.json(f"{sink.url}/", {})).body) == 16_384


# --- hostile texts, and secrets -------------------------------------------------------------------

HOSTILE = "<!channel> <@U1> &\r\nBcc: evil@example.com\n*b* [x](http://evil) \x1b[31m\u202e"


def test_a_hostile_text_adds_no_header_to_a_mail(mail_server: MailServer) -> None:
    notice(make_channel(kind="mail"), now=NOW, facts={"project": HOSTILE, "reason": HOSTILE})
    deliver_all(NOW)
    letter: EmailMessage = mail_server.letters[0]
    assert letter["Bcc"] is None
    assert mail_server.recipients == [["ops@example.com"]]
    assert "\\r\\nBcc: evil@example.com" in letter["Subject"]


def test_a_hostile_text_calls_nobody_and_is_no_markup(sink: Sink) -> None:
    for kind in ("slack", "feishu", "dingtalk", "wecom", "teams", "telegram"):
        notice(make_channel(sink, kind), now=NOW, facts={"project": HOSTILE, "reason": HOSTILE})
    sink.reply = lambda _sent: Reply.json({"code": 0, "errcode": 0, "ok": True})
    deliver_all(NOW)
    sent = [it.json for it in sink.sent]
    slack = next(it for it in sent if "mrkdwn" in it)
    assert "<" not in slack["text"]
    assert "&lt;!channel&gt;" in slack["text"]
    feishu = next(it for it in sent if it.get("msg_type") == "post")
    lines = feishu["content"]["post"]["zh_cn"]["content"]
    assert {part["tag"] for line in lines[:-1] for part in line} == {"text"}
    wecom = next(it for it in sent if it.get("msgtype") == "text" and "at" not in it)
    assert "<@" not in wecom["text"]["content"]
    teams = next(it for it in sent if it.get("type") == "message")
    assert {block["type"] for block in teams["attachments"][0]["content"]["body"]} == {"RichTextBlock"}
    telegram = next(it for it in sent if "chat_id" in it)
    assert "parse_mode" not in telegram
    assert len(sent) == 6
    assert all("\x1b" not in body.decode() and "\u202e" not in body.decode() for body in (it.body for it in sink.sent))


def test_a_secret_of_the_project_is_masked(sink: Sink) -> None:
    project = make_project()
    Variable.objects.create(project=project, name="TOKEN", value="s3cr3t-value", is_secret=True)
    row = notice(
        make_channel(sink, "webhook"), now=NOW, project=project.pk, facts={"reason": "login s3cr3t-value failed"}
    )
    deliver_all(NOW)
    assert status(row) == "sent"
    assert b"s3cr3t" not in sink.sent[0].body
    assert "••••••" in sink.sent[0].json["text"]


def test_the_signature_of_a_webhook_is_over_time_and_body(sink: Sink) -> None:
    notice(make_channel(sink, "webhook"), now=NOW)
    deliver_all(NOW)
    sent = sink.sent[0]
    stamp = sent.headers["Deployer-Timestamp"]
    expected = hmac.new(b"signing key", stamp.encode() + b"." + sent.body, hashlib.sha256).hexdigest()
    assert sent.headers["Deployer-Signature"] == f"sha256={expected}"
    assert abs(int(stamp) - NOW.timestamp()) < 2
    assert sent.headers["Deployer-Notice"] == sent.json["id"]


# --- what says no under HTTP 200 ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "document", "after"),
    [
        ("feishu", {"code": 0, "msg": "success"}, "sent"),
        ("feishu", {"code": 19021, "msg": "sign match fail"}, "failed"),
        ("feishu", {"code": 11232, "msg": "too many"}, "waiting"),
        ("dingtalk", {"errcode": 0, "errmsg": "ok"}, "sent"),
        ("dingtalk", {"errcode": 310000, "errmsg": "sign not match"}, "failed"),
        ("dingtalk", {"errcode": 130101, "errmsg": "send too fast"}, "waiting"),
        ("wecom", {"errcode": 93000, "errmsg": "invalid webhook url"}, "failed"),
        ("wecom", {"errcode": 45009, "errmsg": "api freq out of limit"}, "waiting"),
        ("wecom", ["what"], "failed"),
    ],
)
def test_a_room_that_says_no_under_200_is_not_taken_for_a_yes(sink: Sink, kind: str, document: Any, after: str) -> None:
    sink.reply = lambda _sent: Reply.json(document)
    row = notice(make_channel(sink, kind), now=NOW)
    deliver_all(NOW)
    assert status(row) == after


def test_telegram_says_itself_for_how_long_to_wait(sink: Sink) -> None:
    sink.reply = lambda _sent: Reply.json({"ok": False, "parameters": {"retry_after": 300}}, 429)
    row = notice(make_channel(sink, "telegram"), now=NOW)
    deliver_all(NOW)
    assert sink.sent[0].path == "/hook/bot123:abc/sendMessage"
    assert status(row) == "waiting"
    assert row.next_at == NOW + timedelta(seconds=300)


def test_rooms_that_sign_are_signed(sink: Sink) -> None:
    sink.reply = lambda _sent: Reply.json({"code": 0, "errcode": 0})
    for kind in ("feishu", "dingtalk"):
        notice(make_channel(sink, kind, address={"url": f"{sink.url}/{kind}", "secret": "SECx"}), now=NOW)
    deliver_all(NOW)
    by_path = {sent.path.partition("?")[0]: sent for sent in sink.sent}
    assert {"timestamp", "sign"} <= by_path["/feishu"].json.keys()
    assert "&sign=" in by_path["/dingtalk"].path


# --- the mail server's answers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "after"), [("250 taken", "sent"), ("451 try later", "waiting"), ("550 no such user", "failed")]
)
def test_the_answer_of_the_mail_server_counts(mail_server: MailServer, answer: str, after: str) -> None:
    mail_server.answer = answer
    row = notice(make_channel(kind="mail"), now=NOW)
    deliver_all(NOW)
    assert status(row) == after
    assert after == "sent" or answer[:3] in row.answer


def test_a_mail_server_that_falls_silent_leaves_it_unknown(mail_server: MailServer) -> None:
    mail_server.drops = True
    row = notice(make_channel(kind="mail"), now=NOW)
    deliver_all(NOW)
    assert status(row) == "unknown"


def test_a_mail_server_that_is_away_is_asked_again(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.DEPLOYER_EMAIL_FROM = "127.0.0.1", free_port(), "a@example.com"
    row = notice(make_channel(kind="mail"), now=NOW)
    deliver_all(NOW)
    assert status(row) == "waiting"


# --- marks ----------------------------------------------------------------------------------------


def hub(sent: Sent) -> Reply:
    """GitHub, as far as it is asked."""
    if sent.method == "GET":
        return Reply.json([{"id": 5, "payload": {"deployer": 0}}])
    return Reply.json({"id": 77} if sent.path.endswith("/deployments") else {"state": "ok"}, 201)


def test_github_has_one_deployment_with_the_states_that_it_came_to(sink: Sink) -> None:
    sink.reply = hub
    address = {"repository": "acme/shop", "token": "t0k", "server": sink.url}
    channel = make_channel(kind="github", address=address, events=[])
    project, groups = make_two()
    ended(project, groups, "success")
    assert told(channel) == ["launched", "succeeded"]
    deliver_all(timezone.now() + SECOND)
    posts = [sent for sent in sink.sent if sent.method == "POST"]
    assert [sent.path for sent in posts] == [
        "/repos/acme/shop/deployments",
        *["/repos/acme/shop/deployments/77/statuses"] * 2,
    ]
    assert posts[0].json["ref"] == "main"
    assert posts[-1].json["state"] == "success"
    assert all(sent.headers["Authorization"] == "Bearer t0k" for sent in sink.sent)


def test_gitlab_and_sentry_are_told_of_a_commit(sink: Sink) -> None:
    sink.reply = lambda _sent: Reply.json({"id": 8, "version": "x"}, 201)
    make_channel(kind="gitlab", address={"repository": "acme/shop", "token": "t", "server": sink.url}, events=[])
    sentry = {"organization": "acme", "projects": "shop", "token": "t", "server": sink.url}
    make_channel(kind="sentry", address=sentry, events=[])
    project, groups = make_two()
    it = make_deployment(project, *groups, branch="main")
    it.claim_for_worker()
    type(it).objects.filter(pk=it.pk).update(commit_hash="a" * 40)
    it.targets.update(status="success")
    it.end(type(it).Status.SUCCESS)
    deliver_all(timezone.now() + SECOND)
    by_path = {(sent.method, sent.path): sent for sent in sink.sent}
    assert by_path["POST", "/api/v4/projects/acme%2Fshop/deployments"].json["sha"] == "a" * 40
    assert ("PUT", "/api/v4/projects/acme%2Fshop/deployments/8") in by_path
    assert by_path["POST", "/api/0/organizations/acme/releases/"].json == {"version": "a" * 40, "projects": ["shop"]}
    assert (
        by_path["POST", f"/api/0/organizations/acme/releases/{'a' * 40}/deploys/"].json["environment"] == "production"
    )
