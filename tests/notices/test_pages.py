"""The pages of channels: made by kind, secrets never shown, tested, paused; and who may."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.models import Channel, Notice
from deployer.notices.events import USUAL
from deployer.notices.kinds.every import KINDS
from people.models import Entry, User
from tests.factories import make_member, make_project, make_user
from tests.notices.making import deliver_all, make_channel, notice
from tests.parts.sink import Reply, Sink

pytestmark = pytest.mark.django_db(transaction=True)

ADDRESSES: dict[str, dict[str, str]] = {
    "mail": {"to": "a@example.com, b@example.com"},
    "telegram": {"token": "1:a", "chat": "-1"},
    "webhook": {"url": "https://example.com/x", "secret": "k"},
    "github": {"repository": "acme/shop", "token": "t"},
    "gitlab": {"repository": "acme/web/shop", "token": "t"},
    "sentry": {"organization": "acme", "projects": "shop, api", "token": "t"},
    "other": {"url": "ntfy://topic"},
}


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(make_user())
    return client


def add(client: Client, kind: str, address: dict[str, str], **values: Any) -> Any:
    posted = {"name": "room", "events": ["failed"], **{f"a_{name}": text for name, text in address.items()}, **values}
    return client.post(f"{reverse('channel_add')}?kind={kind}", posted)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_made_by_the_fields_of_its_address(admin: Client, kind: str) -> None:
    address = ADDRESSES.get(kind, {"url": "https://example.com/secret-path"})
    page = admin.get(f"{reverse('channel_add')}?kind={kind}").content.decode()
    for field in KINDS[kind].fields:
        assert f'name="a_{field.name}"' in page
    answer = add(admin, kind, address)
    channel = Channel.objects.get()
    assert answer.url == channel.get_absolute_url()
    assert channel.address == address
    assert channel.made_by is not None
    assert channel.events == ([] if KINDS[kind].is_mark else ["failed"])


def test_a_new_channel_tells_what_is_usual_unless_somebody_chooses(admin: Client) -> None:
    form = admin.get(f"{reverse('channel_add')}?kind=slack").context["form"]
    assert form["events"].value() == [event.value for event in USUAL]
    assert "launched" not in form["events"].value()


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("mail", {"to": ""}),
        ("mail", {"to": "a@example.com, no"}),
        ("mail", {"to": ",".join(f"a{number}@example.com" for number in range(21))}),
        ("mail", {"to": "a@example.com\nBcc: b@example.com"}),
        ("slack", {"url": "javascript:alert(1)"}),
        ("slack", {"url": "file:///etc/passwd"}),
        ("slack", {"url": "https://user:pw@example.com/"}),
        ("slack", {"url": "https://[::1"}),
        ("webhook", {"url": "https://example.com/x", "secret": ""}),
        ("github", {"repository": "../../user", "token": "t"}),
        ("github", {"repository": "shop", "token": "t"}),
        ("sentry", {"organization": "acme/..", "projects": "shop", "token": "t"}),
        ("telegram", {"token": "1:a", "chat": "1", "server": "http://"}),
        ("other", {"url": "x" * 2_000}),
    ],
)
def test_an_address_that_is_none_is_refused(admin: Client, kind: str, address: dict[str, str]) -> None:
    assert add(admin, kind, address).status_code == 200
    assert not Channel.objects.exists()


def test_a_secret_is_on_no_page_and_stays_where_its_box_is_left_empty(admin: Client) -> None:
    add(admin, "webhook", {"url": "https://example.com/s3cr3t-path", "secret": "s3cr3t-key"})
    channel = Channel.objects.get()
    for name in ("channel", "channel_edit", "channel_notices"):
        assert b"s3cr3t" not in admin.get(reverse(name, args=[channel.pk])).content
    assert b"s3cr3t" not in admin.get(reverse("channels")).content
    admin.post(reverse("channel_edit", args=[channel.pk]), {"name": "other", "events": ["drift"]})
    channel = Channel.objects.get()
    assert (channel.name, channel.events) == ("other", ["drift"])
    assert channel.address == {"url": "https://example.com/s3cr3t-path", "secret": "s3cr3t-key"}
    assert "s3cr3t" not in str([*Entry.objects.values_list("before", "after")])


def test_a_stored_token_is_sent_to_no_other_server(admin: Client) -> None:
    add(admin, "github", {"repository": "acme/shop", "token": "t0k"})
    channel = Channel.objects.get()
    moved = {"name": "room", "a_repository": "acme/shop", "a_server": "https://evil.example.com"}
    edit = reverse("channel_edit", args=[channel.pk])
    assert "Enter it again" in admin.post(edit, moved).content.decode()
    assert Channel.objects.get().address == {"repository": "acme/shop", "token": "t0k"}
    assert admin.post(edit, moved | {"a_token": "new"}).status_code == 302


def test_a_maintainer_makes_channels_for_what_they_edit_alone(client: Client) -> None:
    project, other = make_project(environment="staging"), make_project(environment="production")
    client.force_login(make_member("maintainer", "staging"))
    address = {"url": "https://example.com/x"}
    assert add(client, "slack", address).status_code == 200  # for all of them
    assert add(client, "slack", address, environments=["production"]).status_code == 200
    assert add(client, "slack", address, projects=[other.pk]).status_code == 200
    assert not Channel.objects.exists()
    assert add(client, "slack", address, projects=[project.pk]).status_code == 302
    assert add(client, "slack", address, name="b", environments=["staging"]).status_code == 302
    assert add(client, "other", {"url": "ntfy://x"}, name="c", environments=["staging"]).status_code == 403
    everywhere = make_channel()
    assert client.get(reverse("channel", args=[everywhere.pk])).status_code == 403
    page = client.get(reverse("channels")).content.decode()
    assert "other" not in page.partition("channel-kinds")[2].partition("</section>")[0].lower()


def test_a_test_shows_its_answer(admin: Client, sink: Sink) -> None:
    sink.reply = lambda _sent: Reply(403, b"invalid_token")
    channel = make_channel(sink)
    admin.post(reverse("channel_test", args=[channel.pk]))
    part = reverse("channel_notices", args=[channel.pk])
    assert "every 2s" in admin.get(part).content.decode()
    deliver_all(timezone.now())
    page = admin.get(part).content.decode()
    assert "HTTP 403: invalid_token" in page
    assert "every 2s" not in page
    assert Entry.objects.filter(act="tested", kind="channel").count() == 1


def test_a_channel_is_paused_with_a_reason_and_tells_again(admin: Client) -> None:
    channel = make_channel()
    pause = reverse("channel_pause", args=[channel.pk])
    admin.post(pause, {"reason": ""})
    assert Channel.objects.get().is_active
    admin.post(pause, {"reason": "moving"})
    channel.refresh_from_db()
    assert (channel.is_active, channel.paused_reason) == (False, "moving")
    assert "moving" in admin.get(reverse("channels")).content.decode()
    admin.post(pause, {"resume": "yes"})
    assert Channel.objects.get().is_active


def test_the_list_says_when_nobody_sends(admin: Client) -> None:
    row = notice(make_channel(), now=timezone.now())
    assert "deployer courier" not in admin.get(reverse("channels")).content.decode()
    Notice.objects.filter(pk=row.pk).update(next_at=timezone.now() - timedelta(minutes=2))
    assert "deployer courier" in admin.get(reverse("channels")).content.decode()


def test_an_answer_is_shown_as_text(admin: Client) -> None:
    channel = make_channel()
    notice(channel, now=timezone.now(), answer="<script>alert(1)</script>", facts={"project": "<b>shop</b>"})
    page = admin.get(reverse("channel", args=[channel.pk])).content.decode()
    assert "<script>alert" not in page
    assert "<b>shop" not in page
    assert "&lt;script&gt;" in page


def test_a_project_says_which_channels_tell_of_it(admin: Client) -> None:
    project = make_project()
    here, elsewhere = make_channel(name="ops room"), make_channel(name="staging room", environments=["staging"])
    here.projects.add(project)
    page = admin.get(reverse("project", args=[project.pk])).content.decode()
    assert here.name in page
    assert elsewhere.name not in page


def test_somebody_chooses_what_they_have_mail_about(client: Client) -> None:
    user = make_user()
    client.force_login(user)
    client.post(reverse("account"), {"language": "", "time_zone": "", "mail_about": "all"})
    assert User.objects.get(pk=user.pk).mail_about == "all"
