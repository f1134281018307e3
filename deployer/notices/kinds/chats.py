"""Rooms of chats. Every text is sent where its room shows it as it is: nothing in it is markup, and nobody is called.

The formats are those of the services' own documents for incoming webhooks and bots.
"""

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import quote

from django.utils.translation import gettext_lazy as _

from deployer.models import ChannelKind
from deployer.notices.kinds.kind import (
    LONGEST_WAIT,
    Address,
    Answer,
    Field,
    Kind,
    Net,
    Outcome,
    Parcel,
    Request,
    Response,
    judged,
    web_address,
)
from deployer.notices.texts import Message

_URL = Field("url", _("Webhook address"), is_secret=True, check=web_address)


def _cut(text: str, most: int) -> str:
    """``text`` as no more than ``most`` bytes."""
    data = text.encode(errors="replace")
    return text if len(data) <= most else data[: most - 4].decode(errors="ignore") + "…"


def _signature(key: bytes, text: bytes) -> str:
    return base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


class _Chat(Kind):
    """A room that takes one JSON document for each message."""

    def send(self, address: Address, parcel: Parcel, net: Net) -> Answer:
        return self.judge(net.ask(self.request(address, parcel)))

    def request(self, address: Address, parcel: Parcel) -> Request:
        """What is sent."""
        return Request.json(address["url"], self.document(parcel.message))

    def document(self, message: Message) -> Any:
        """The message as the room takes it."""
        raise NotImplementedError

    def judge(self, response: Response) -> Answer:
        """What an answer means: some rooms say no under HTTP 200."""
        return judged(response)


class Slack(_Chat):
    kind = ChannelKind.SLACK
    fields = (_URL,)
    help = _("An incoming webhook of Slack, or of what takes its format, like Mattermost or Rocket.Chat.")

    def document(self, message: Message) -> Any:
        text = f"{message.subject}\n{message.text}".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return {"text": _cut(text, 30_000), "mrkdwn": False, "unfurl_links": False, "link_names": False}


def _said(response: Response, code: str, fine: int, passing: frozenset[int]) -> Answer:
    """What an answer with a number of its own means; HTTP 200 alone says nothing."""
    document = response.json
    if response.status != 200 or not isinstance(document, dict) or not isinstance(document.get(code), int):
        return judged(response) if response.status != 200 else Answer(Outcome.REFUSED, response.told)
    if document[code] == fine:
        return Answer(Outcome.SENT, response.told)
    return Answer(Outcome.LATER if document[code] in passing else Outcome.REFUSED, response.told)


class Feishu(_Chat):
    kind = ChannelKind.FEISHU
    fields = (
        _URL,
        Field("secret", _("Signature secret"), _("Where the bot verifies signatures."), is_secret=True, required=False),
    )
    help = _("A custom bot of a group.")

    def request(self, address: Address, parcel: Parcel) -> Request:
        document = self.document(parcel.message)
        if secret := address.get("secret"):
            stamp = str(int(parcel.now.timestamp()))
            document |= {"timestamp": stamp, "sign": _signature(f"{stamp}\n{secret}".encode(), b"")}
        return Request.json(address["url"], document)

    def document(self, message: Message) -> Any:
        lines: list[list[dict[str, str]]] = [[{"tag": "text", "text": _cut(line, 2_000)}] for line in message.lines]
        if message.link:
            lines.append([{"tag": "a", "text": message.link, "href": message.link}])
        return {"msg_type": "post", "content": {"post": {"zh_cn": {"title": message.subject, "content": lines}}}}

    def judge(self, response: Response) -> Answer:
        return _said(response, "code", 0, frozenset({11232, 11233}))


class DingTalk(_Chat):
    kind = ChannelKind.DINGTALK
    fields = (
        _URL,
        Field("secret", _("Signature secret"), _("Where the robot signs: SEC…"), is_secret=True, required=False),
    )
    help = _("A custom robot of a group.")

    def request(self, address: Address, parcel: Parcel) -> Request:
        url = address["url"]
        if secret := address.get("secret"):
            stamp = str(int(parcel.now.timestamp() * 1000))
            sign = quote(_signature(secret.encode(), f"{stamp}\n{secret}".encode()), safe="")
            url += f"{'&' if '?' in url else '?'}timestamp={stamp}&sign={sign}"
        return Request.json(url, self.document(parcel.message))

    def document(self, message: Message) -> Any:
        text = _cut(f"{message.subject}\n{message.text}", 15_000)
        return {"msgtype": "text", "text": {"content": text}, "at": {"isAtAll": False}}

    def judge(self, response: Response) -> Answer:
        return _said(response, "errcode", 0, frozenset({-1, 130101, 410100}))


class WeCom(_Chat):
    kind = ChannelKind.WECOM
    fields = (_URL,)
    help = _("A robot of a group.")

    def document(self, message: Message) -> Any:
        text = f"{message.subject}\n{message.text}".replace("<@", "<\u200b@")  # else it calls somebody
        return {"msgtype": "text", "text": {"content": _cut(text, 2_000)}}

    def judge(self, response: Response) -> Answer:
        return _said(response, "errcode", 0, frozenset({-1, 45009, 45033}))


class Teams(_Chat):
    kind = ChannelKind.TEAMS
    fields = (_URL,)
    help = _("The address of a workflow “Post to a channel when a webhook request is received”.")

    def document(self, message: Message) -> Any:
        body = [self._block(message.subject, weight="Bolder"), *map(self._block, message.lines)]
        card: dict[str, Any] = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": body,
        }
        if message.link:
            card["actions"] = [{"type": "Action.OpenUrl", "title": "deployer", "url": message.link}]
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        return {"type": "message", "attachments": [attachment]}

    @staticmethod
    def _block(text: str, **how: str) -> dict[str, Any]:
        """A line that knows no markup, unlike a TextBlock."""
        return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": _cut(text, 2_000)} | how]}


class Telegram(_Chat):
    kind = ChannelKind.TELEGRAM
    fields = (
        Field("token", _("Token of the bot"), placeholder="123456:ABC…", is_secret=True),
        Field("chat", _("Chat"), _("The number of the chat, or @name of a public channel."), placeholder="-1001234"),
        Field(
            "server",
            _("Server"),
            _("Only for a Bot API server of your own."),
            placeholder="https://api.telegram.org",
            required=False,
            check=web_address,
        ),
    )

    def request(self, address: Address, parcel: Parcel) -> Request:
        server = address.get("server") or "https://api.telegram.org"
        document = {"chat_id": address["chat"]} | self.document(parcel.message)
        return Request.json(f"{server.rstrip('/')}/bot{quote(address['token'], safe=':')}/sendMessage", document)

    def document(self, message: Message) -> Any:
        text = f"{message.subject}\n{message.text}"
        return {
            "text": text if len(text) <= 4_000 else f"{text[:3_999]}…",
            "link_preview_options": {"is_disabled": True},
        }

    def judge(self, response: Response) -> Answer:
        answer = judged(response)
        document = response.json
        wait = document.get("parameters", {}).get("retry_after", 0) if isinstance(document, dict) else 0
        if answer.outcome is Outcome.LATER and isinstance(wait, int) and wait > 0:
            return Answer(Outcome.LATER, answer.told, wait=min(float(wait), LONGEST_WAIT))
        return answer


class Webhook(_Chat):
    """Not a chat: any program that takes the documented JSON. docs/notices.md tells how its signature is checked."""

    kind = ChannelKind.WEBHOOK
    has_readers = False
    fields = (
        Field("url", _("Address"), is_secret=True, check=web_address),
        Field("secret", _("Secret"), _("The key of the signature (HMAC-SHA256)."), is_secret=True),
    )

    def request(self, address: Address, parcel: Parcel) -> Request:
        stamp = str(int(parcel.now.timestamp()))
        body = json.dumps(self.document(parcel.message), ensure_ascii=False).encode(errors="replace")
        key = address["secret"].encode()
        signature = hmac.new(key, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Deployer-Event": parcel.message.event.value,
            "Deployer-Notice": parcel.message.number,
            "Deployer-Timestamp": stamp,
            "Deployer-Signature": f"sha256={signature}",
        }
        return Request("POST", address["url"], headers, body)

    def document(self, message: Message) -> Any:
        return {
            "id": message.number,
            "event": message.event.value,
            "again": message.is_again,
            "subject": message.subject,
            "text": "\n".join(message.lines),
            "url": message.link,
            **message.facts[0],
        }
