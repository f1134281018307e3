"""A mail server on this machine that keeps what it is brought, and can refuse, or fall silent, on demand."""

import asyncio
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.parts.programs import free_port


class MailServer:
    """Answers each mail with ``answer``; ``letters`` are those that it has taken, with ``recipients`` beside them."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.answer = "250 taken"
        self.drops = False
        self.came = threading.Event()
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 (its name)
        """Take a mail."""
        if self.answer.startswith("250"):
            letter = message_from_bytes(cast(bytes, envelope.content), policy=cast(Any, policy.default))
            self.letters.append(cast(EmailMessage, letter))
            self.recipients.append([*envelope.rcpt_tos])
        self.came.set()
        if self.drops and isinstance(server.transport, asyncio.Transport):
            server.transport.abort()
        return self.answer

    def stop(self) -> None:
        """End it."""
        self._controller.stop()

    def settings(self) -> dict[str, Any]:
        """Django's settings for it."""
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": self.port,
            "EMAIL_HOST_USER": "",
            "EMAIL_HOST_PASSWORD": "",
            "EMAIL_USE_TLS": False,
            "EMAIL_USE_SSL": False,
            "DEPLOYER_EMAIL_FROM": "deployer <deployer@example.com>",
        }
