"""What deliveries of each kind of git server say, whether they are signed, and which branches and files fit."""

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.models import Delivery, Webhook
from deployer.triggers.patterns import fits, ref_fits
from deployer.triggers.payloads import Reading, UnreadableError, event_of, number_of, read
from deployer.triggers.signatures import signed_with
from projects.models import Project
from tests.deployer import payloads
from tests.deployer.payloads import PUSHER, ZEROS, Sample

Kind = Delivery.Kind
NEW, OLD = "b" * 40, "a" * 40


def reading_of(sample: Sample) -> Reading:
    event = event_of(sample.provider, sample.signed("x"))
    return read(sample.provider, event, "application/json", sample.body)


#: A delivery, and its kind, ref, commit before and after, and title.
SAYS = {
    "github push": (payloads.github_push(NEW, OLD), Kind.PUSH, "main", OLD, NEW, "Sell more"),
    "github tag": (payloads.github_push(NEW, ref="refs/tags/v1.0"), Kind.TAG, "v1.0", ZEROS, NEW, "Sell more"),
    "github folder": (payloads.github_push(NEW, OLD, "refs/heads/fix/a"), Kind.PUSH, "fix/a", OLD, NEW, "Sell more"),
    "github delete": (payloads.github_push(ZEROS, OLD), Kind.PUSH, "main", OLD, ZEROS, ""),
    "github delete event": (payloads.github_delete("v1", "tag"), Kind.TAG, "v1", "", ZEROS, ""),
    "github workflow": (payloads.workflow_run(NEW), Kind.SUCCESS, "main", "", NEW, "Sell more"),
    "github ping": (payloads.github_ping(), Kind.PING, "", "", "", ""),
    "gitlab push": (payloads.gitlab_push(NEW, OLD), Kind.PUSH, "main", OLD, NEW, "Sell more"),
    "gitlab tag": (payloads.gitlab_push(NEW, ref="refs/tags/v1"), Kind.TAG, "v1", ZEROS, NEW, "Sell more"),
    "gitlab delete": (payloads.gitlab_push(ZEROS, OLD), Kind.PUSH, "main", OLD, ZEROS, ""),
    "gitlab pipeline": (payloads.gitlab_pipeline(NEW), Kind.SUCCESS, "main", "", NEW, "Sell more"),
    "gitea push": (payloads.gitea_push(NEW, OLD), Kind.PUSH, "main", OLD, NEW, "Sell more"),
    "gitea tag": (payloads.gitea_push(NEW, ref="refs/tags/v1"), Kind.TAG, "v1", ZEROS, NEW, "Sell more"),
    "gitea workflow": (payloads.workflow_run(NEW, "gitea"), Kind.SUCCESS, "main", "", NEW, "Sell more"),
    "forgejo run": (payloads.forgejo_run(NEW), Kind.SUCCESS, "main", "", NEW, "Sell more"),
    "generic": (payloads.generic(ref="main", commit=NEW, before=OLD, title="x"), Kind.PUSH, "main", OLD, NEW, "x"),
    "generic tag": (payloads.generic(ref="refs/tags/v1"), Kind.TAG, "v1", "", "", ""),
    "generic nothing": (payloads.generic(), Kind.PUSH, "", "", "", ""),
    "generic success": (payloads.generic(event="success", ref="main"), Kind.SUCCESS, "main", "", "", ""),
}


@pytest.mark.parametrize("name", SAYS)
def test_a_delivery_of_each_kind_of_sender_is_read(name: str) -> None:
    sample, *wanted = SAYS[name]
    found = reading_of(sample)
    assert [found.kind, found.ref, found.before, found.after, found.title] == wanted
    assert not found.why_not


@pytest.mark.parametrize(
    ("sample", "pushers"),
    [
        (payloads.github_push(NEW), (PUSHER,)),
        (payloads.gitlab_push(NEW), (PUSHER,)),
        (payloads.gitea_push(NEW), (PUSHER,)),
        (payloads.gitlab_pipeline(NEW), (PUSHER, "grace@example.com")),
        (payloads.workflow_run(NEW), (PUSHER,)),
        (payloads.generic(pushed_by=["Ada@Example.com", "no address", 3, None]), ("ada@example.com",)),
    ],
)
def test_those_who_pushed_are_known_by_their_addresses(sample: Sample, pushers: tuple[str, ...]) -> None:
    assert reading_of(sample).pushers == pushers


def test_a_hidden_address_of_the_pusher_leaves_that_of_the_newest_commit() -> None:
    sample = payloads.gitlab_push(NEW)
    sample.payload["user_email"] = "[REDACTED]"
    assert reading_of(sample).pushers == (PUSHER,)


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (payloads.workflow_run(NEW, conclusion="failure"), "failure"),
        (payloads.workflow_run(NEW, action="requested", conclusion=None), "not ended"),
        (payloads.workflow_run(NEW, repository="stranger/shop"), "stranger/shop"),
        (payloads.gitlab_pipeline(NEW, "failed"), "failed"),
        (payloads.gitlab_pipeline(NEW, source="merge_request_event"), "merge request"),
        (payloads.forgejo_run(NEW, "failure"), "not succeeded"),
    ],
)
def test_what_has_not_succeeded_for_the_repository_itself_says_why_not(sample: Sample, why: str) -> None:
    assert why in reading_of(sample).why_not


@pytest.mark.parametrize("event", ["issues", "fork", "", "x" * 500])
def test_another_event_is_read_as_one_that_launches_nothing(event: str) -> None:
    assert read("github", event, "", b"{}").kind == Kind.OTHER


def test_the_form_that_github_sends_unless_told_otherwise_is_read() -> None:
    sample = payloads.github_push(NEW)
    body = f"payload={quote_plus(sample.body.decode())}".encode()
    found = read("github", "push", "application/x-www-form-urlencoded", body)
    assert (found.ref, found.after) == ("main", NEW)


HOSTILE: dict[str, bytes] = {
    "nothing": b"\x00\x01",
    "half": json.dumps(payloads.github_push(NEW).payload).encode()[:200],
    "a list": b"[]",
    "a text": b'"refs/heads/main"',
    "deep": b'{"ref":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of many digits": b'{"ref": ' + b"9" * 10_000 + b"}",
    "no number": b'{"ref": NaN}',
    "not UTF-8": b'{"ref": "\xff\xfe"}',
    "no ref": json.dumps({"after": NEW}).encode(),
    "a ref that is none": json.dumps({"ref": ["x"], "after": NEW}).encode(),
    "an option": json.dumps({"ref": "refs/heads/--upload-pack=x", "after": NEW}).encode(),
    "two points": json.dumps({"ref": "refs/heads/a..b", "after": NEW}).encode(),
    "a huge ref": json.dumps({"ref": "refs/heads/" + "a" * 100_000, "after": NEW}).encode(),
    "a NUL in the ref": json.dumps({"ref": "refs/heads/a\x00b", "after": NEW}).encode(),
    "half a character in the ref": b'{"ref": "refs/heads/a\\ud800", "after": "' + NEW.encode() + b'"}',
    "a line break in the ref": json.dumps({"ref": "refs/heads/a\nb", "after": NEW}).encode(),
    "no commit": json.dumps({"ref": "refs/heads/main"}).encode(),
    "a short commit": json.dumps({"ref": "refs/heads/main", "after": "abc"}).encode(),
    "a branch as commit": json.dumps({"ref": "refs/heads/main", "after": "main"}).encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_payload_is_unreadable_and_nothing_worse(name: str) -> None:
    for provider in ("github", "gitea"):
        with pytest.raises(UnreadableError):
            read(provider, "push", "application/json", HOSTILE[name])
    with pytest.raises(UnreadableError):
        read("github", "push", "application/x-www-form-urlencoded", b"payload=" + HOSTILE[name].replace(b"&", b""))


def test_a_field_that_the_own_form_does_not_have_is_named() -> None:
    with pytest.raises(UnreadableError, match="comit"):
        reading_of(payloads.generic(comit=NEW))


def test_what_is_kept_of_a_title_is_one_visible_line() -> None:
    sample = payloads.github_push(NEW, title="a\x00b\u202ec" + "x" * 1000)
    found = reading_of(sample)
    assert found.title.startswith("a\\x00b\\u202ec")
    assert len(found.title) == 300
    surrogate = json.dumps(sample.payload).replace("a\\u0000b", "a\\ud800b").encode()
    assert read("github", "push", "", surrogate).title.startswith("a\\ud800b")


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
_PATHS = ["ref", "before", "after", "head_commit", "commits", "pusher", "object_kind", "object_attributes", "run"]


@given(st.sampled_from([*SAYS]), st.sampled_from([*_PATHS, "workflow_run", "action", "event", "title"]), _values)
def test_any_value_anywhere_is_read_or_unreadable(name: str, field: str, value: Any) -> None:
    sample = SAYS[name][0]
    body = json.dumps({**sample.payload, field: value}).encode()
    try:
        found = read(sample.provider, sample.event, "", body)
    except UnreadableError:
        return
    assert len(found.ref) <= 255
    assert all(character.isprintable() for character in found.title + found.ref + found.workflow)


# --- signatures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", Webhook.Provider.values)
def test_a_delivery_is_taken_by_the_signature_of_its_sender_and_by_no_other(provider: str) -> None:
    body = b'{"ref": "refs/heads/main"}'
    headers = payloads.sign(provider, "right", body)
    assert signed_with(provider, headers, body, ["new", "right"]) == "right"
    assert signed_with(provider, headers, body, ["wrong"]) == ""
    assert signed_with(provider, {}, body, ["right"]) == ""
    if provider != "gitlab":  # its token says nothing of the body
        assert signed_with(provider, headers, body + b" ", ["right"]) == ""
    own = [name for name, value in headers.items() if "right" in value or len(value) > 60]
    for name in own:
        assert signed_with(provider, headers | {name: headers[name][:-1]}, body, ["right"]) == ""
        assert signed_with(provider, headers | {name: ""}, body, ["right"]) == ""
        assert signed_with(provider, headers | {name: "\udcff" + headers[name]}, body, ["right"]) == ""
        assert signed_with(provider, headers | {name: headers[name] + "x" * 5_000}, body, ["right"]) == ""


def test_an_older_kind_of_signature_is_not_looked_at() -> None:
    headers = {"X-Hub-Signature": "sha1=0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33"}
    assert signed_with("github", headers, b"", ["x"]) == ""


def test_the_signing_of_gitlab_is_taken_and_covers_the_body() -> None:
    webhook = Webhook(provider="gitlab", project=Project(name="x"))
    secret = webhook.renew(webhook.created_at or _moment())
    body = b'{"object_kind": "push"}'
    headers = payloads.standard_webhooks(secret, body)
    assert signed_with("gitlab", headers, body, [secret]) == secret
    assert signed_with("gitlab", headers, body + b" ", [secret]) == ""
    assert signed_with("gitlab", headers | {"webhook-timestamp": "1"}, body, [secret]) == ""
    both = headers | {"webhook-signature": "v1,AAAA v2,x " + headers["webhook-signature"]}
    assert signed_with("gitlab", both, body, [secret]) == secret


def _moment() -> Any:
    from django.utils import timezone

    return timezone.now()


def test_a_bearer_token_is_enough_for_anything_else() -> None:
    assert signed_with("generic", {"Authorization": "Bearer right"}, b"", ["right"]) == "right"
    assert signed_with("generic", {"Authorization": "Bearer wrong"}, b"", ["right"]) == ""
    assert signed_with("generic", {"Authorization": "Basic right"}, b"", ["right"]) == ""
    assert signed_with("github", {"Authorization": "Bearer right"}, b"", ["right"]) == ""


def test_the_number_of_a_delivery_is_the_sender_s_own_and_bounded() -> None:
    assert number_of("github", payloads.github_ping().signed("x")) == "gh-ping"
    assert number_of("gitlab", {"Idempotency-Key": "k", "X-Gitlab-Event-UUID": "u"}) == "k"
    assert number_of("generic", {}) == ""
    assert len(number_of("github", {"X-GitHub-Delivery": "x" * 5_000})) == 100


# --- patterns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "patterns", "wanted"),
    [
        ("main", ["main"], True),
        ("main2", ["main"], False),
        ("release/1", ["release/*"], True),
        ("release/1/2", ["release/*"], False),
        ("release/1/2", ["release/**"], True),
        ("release", ["release/**"], True),
        ("a/b/shop/x.py", ["**/shop/*.py"], True),
        ("shop/x.py", ["**/shop/*.py"], True),
        ("x/shop/shop/x.py", ["**/shop/x.py"], True),
        ("shop/docs/a.md", ["shop/**", "!**/*.md"], False),
        ("shop/a.py", ["shop/**", "!**/*.md"], True),
        ("a.md", ["!*.md"], False),
        ("a.py", ["!*.md"], True),
        ("[x]", ["[x]"], True),
        ("x", ["[x]"], False),
        ("a", ["?"], True),
        ("a\nb", ["*"], True),
        ("main", [], False),
    ],
)
def test_a_pattern_fits_as_it_says(name: str, patterns: list[str], wanted: bool) -> None:
    assert fits(name, patterns) is wanted


def test_no_pattern_takes_long_with_any_name() -> None:
    assert not fits("a" * 4_000, ["*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"])
    assert not fits("/".join("a" * 2_000), ["**/a/**/a/**/a/**/a/**/a/**/b"])


@pytest.mark.parametrize(
    ("refs", "branches", "tags"),
    [
        ([], {"main"}, {"v1", "x"}),
        (["main"], {"main"}, set()),
        (["*"], {"main", "next"}, set()),
        (["tags/v*"], set(), {"v1"}),
        (["next", "tags/*", "!tags/x"], {"next"}, {"v1"}),
    ],
)
def test_a_webhook_is_for_its_branches_and_tags(refs: list[str], branches: set[str], tags: set[str]) -> None:
    webhook = Webhook(refs=refs, project=Project(default_branch="main"))
    assert {name for name in ("main", "next", "fix/a") if ref_fits(webhook, Kind.PUSH, name)} == branches
    assert {name for name in ("v1", "x") if ref_fits(webhook, Kind.TAG, name)} == tags
