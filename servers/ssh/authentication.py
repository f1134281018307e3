"""Proving to a machine who logs in: what it wants to see, in turn, and what the credential has of it."""

import base64
import io
import re
import threading
from collections.abc import Sequence
from functools import lru_cache

import paramiko
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from servers.errors import LoginRefusedError, SilentError, UnreachableError
from servers.keys import openssh_key
from servers.models import Credential, Server

LOGIN_TIMEOUT = 20.0

_KEY, _PASSWORD, _QUESTIONS = "publickey", "password", "keyboard-interactive"
#: Questions that no password answers: each answer to them is good for once.
_ONE_TIME = re.compile(
    r"one.?time|\botp\b|token|code|verif|factor|duo|\bpin\b|challenge|验证码|动态|令牌", re.IGNORECASE
)
#: Characters of a question that are shown.
_SHOWN = 60

_parsing = threading.Lock()


class _QuestionError(paramiko.SSHException):
    """The machine asks a question whose answer is in no credential."""

    def __init__(self, question: str) -> None:
        super().__init__(question)
        self.question = re.sub(r"[^\x20-\x7e\xa0-\uffff]+", " ", question).strip(" :")[:_SHOWN]


class Authentication:
    """A login on ``server``, to which ``transport`` leads, with its credential."""

    def __init__(self, server: Server, transport: paramiko.Transport) -> None:
        self.server = server
        self.transport = transport
        self.credential = server.credential
        self._has = [_KEY, _PASSWORD] if self.credential.kind == Credential.Kind.SSH_KEY else [_PASSWORD]
        if not self.credential.password:
            self._has.remove(_PASSWORD)
        self._tried: set[str] = set()
        self._accepted: list[str] = []
        self._answered = False

    def carry_out(self) -> list[str]:
        """Show what the machine wants until it is content: the key, the password; gives what that was.

        Raises a `LoginRefusedError` or an `UnreachableError`.
        """
        wanted: Sequence[str] = ()
        while True:
            method = self._next(wanted)
            self._tried.add(method)
            try:
                wanted = self._show(method, wanted)
            except paramiko.BadAuthenticationType as error:
                wanted = error.allowed_types
                if not self._accepted and self._answer_to(wanted):
                    continue  # it wants the other one first
                raise self._not_accepted(method, wanted) from error
            except _QuestionError as error:
                raise self._asks(error.question) from error
            except paramiko.AuthenticationException as error:
                if not self.transport.is_active():  # the library says this of a link that was cut, too
                    raise self._cut(error) from error
                if "timeout" in str(error).lower():
                    raise self._silent() from error
                raise self._not_accepted(method, getattr(error, "allowed_types", [])) from error
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise self._cut(error) from error
            self._accepted.append(method)
            self._tried = {*self._accepted}
            if not wanted:
                return self._accepted

    # --- one step after the other ------------------------------------------------------------------

    def _next(self, wanted: Sequence[str]) -> str:
        """What is shown next where these are ``wanted``; nothing is known of them at first."""
        if not wanted:
            return self._has[0] if self._has else _QUESTIONS
        if method := self._answer_to(wanted):
            return method
        if _QUESTIONS in wanted and _QUESTIONS not in self._tried:
            return _QUESTIONS  # only to hear what it asks
        raise self._wants_more(wanted)

    def _answer_to(self, wanted: Sequence[str]) -> str:
        """What the credential has of what is ``wanted`` and was not tried yet; empty if nothing."""
        offered = {_PASSWORD if method == _QUESTIONS else method for method in wanted}
        return next((method for method in self._has if method in offered and method not in self._tried), "")

    def _show(self, method: str, wanted: Sequence[str]) -> Sequence[str]:
        """Show it; gives what is wanted behind it."""
        transport, credential = self.transport, self.credential
        if method == _KEY:
            return list(transport.auth_publickey(credential.username, private_key(credential)))
        if method == _PASSWORD and (not wanted or _PASSWORD in wanted):
            try:
                return list(transport.auth_password(credential.username, credential.password, fallback=False))
            except paramiko.BadAuthenticationType as error:
                if _QUESTIONS not in error.allowed_types:
                    raise
        return list(transport.auth_interactive(credential.username, self._answer))

    def _answer(self, _title: str, _instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str]:
        """The password to the one question that can be the one about it, once."""
        if not prompts:
            return []
        question = str(prompts[0][0])
        password = self.credential.password if _PASSWORD in self._has else ""
        if not password or self._answered or len(prompts) > 1 or _ONE_TIME.search(question):
            raise _QuestionError(question)
        self._answered = True
        return [password]

    # --- what can be in the way --------------------------------------------------------------------

    def _refused(self, why: str, remedy: str) -> LoginRefusedError:
        return LoginRefusedError(_("%s refused the login") % self.server, why, remedy)

    @property
    def _words(self) -> dict[str, object]:
        kinds = {_KEY: _("key"), _PASSWORD: _("password"), _QUESTIONS: _("password")}
        accepted = kinds[self._accepted[-1]] if self._accepted else ""
        return {"kind": accepted, "credential": self.credential, "user": self.credential.username}

    def _not_accepted(self, method: str, wanted: Sequence[str]) -> LoginRefusedError:
        kind = _("key") if method == _KEY else _("password")
        why = _("it does not accept the %(kind)s of credential “%(credential)s” for user “%(user)s”") % (
            self._words | {"kind": kind}
        )
        kinds = _listed(wanted)
        return self._refused(
            _("%(why)s (it offers: %(kinds)s)") % {"why": why, "kinds": kinds} if kinds else why,
            _("Correct the password in the credential.")
            if _KEY in self._accepted
            else _("Put the public key into the user's authorized_keys, or correct the credential."),
        )

    def _asks(self, question: str) -> LoginRefusedError:
        """It asks a ``question`` that stays open: about the password that the credential lacks, or another one."""
        if not (_ONE_TIME.search(question) or self._answered or _PASSWORD in self._has):
            return self._wants_more([_PASSWORD])
        asks = _("it asks for “%s”, which only a person can answer") % question
        why = (
            _("it accepted the %(kind)s of credential “%(credential)s” for user “%(user)s”") % self._words
            if self._accepted
            else ""
        )
        return self._refused(f"{why}; {asks}" if why else asks, self._exempt())

    def _wants_more(self, wanted: Sequence[str]) -> LoginRefusedError:
        more = _("a password") if {_PASSWORD, _QUESTIONS} & set(wanted) else _listed(wanted)
        if not self._accepted:
            return self._refused(
                _("it wants %s") % more, _("Enter a password in the credential, or put a key into it.")
            )
        remedy = _("Enter the password in the credential, beside the key.") if _PASSWORD in wanted else self._exempt()
        why = _("it accepted the %(kind)s of credential “%(credential)s” for user “%(user)s” and wants %(more)s too")
        return self._refused(why % (self._words | {"more": more}), remedy)

    def _exempt(self) -> str:
        return _("Ask for less from this user in the server's sshd_config (Match User, AuthenticationMethods).")

    def _silent(self) -> SilentError:
        return SilentError(
            _("%s did not answer the login") % self.server,
            _("it said nothing for %d seconds") % LOGIN_TIMEOUT,
            _("Check that the machine is not overloaded, and the PAM and DNS settings of its SSH server."),
        )

    def _cut(self, error: Exception) -> UnreachableError:
        return UnreachableError(_("%s ended the connection during the login") % self.server, str(error))


def _listed(methods: Sequence[str]) -> str:
    """The names of ``methods`` as a server has given them, which may be anything."""
    return ", ".join(re.sub(r"[^\w@.+-]", "?", name)[:40] for name in methods[:8])


@lru_cache(maxsize=64)
def _parsed(pem: str, passphrase: str) -> paramiko.PKey:
    stream = io.StringIO(openssh_key(pem, passphrase))
    header = base64.b64decode("".join(stream.getvalue().split("\n")[1:-2]))
    kinds: tuple[tuple[bytes, type[paramiko.PKey]], ...] = (
        (b"ssh-ed25519", paramiko.Ed25519Key),
        (b"ssh-rsa", paramiko.RSAKey),
        (b"ecdsa-sha2-", paramiko.ECDSAKey),
    )
    kind = next(kind for name, kind in kinds if name in header[:120])
    return kind.from_private_key(stream)


def private_key(credential: Credential) -> paramiko.PKey:
    """The parsed key; an encrypted one costs 0.12 s each time it is opened, so it is opened once."""
    try:
        with _parsing:
            return _parsed(credential.private_key, credential.passphrase)
    except ValidationError as error:
        raise LoginRefusedError(
            _("The private key of credential “%s” cannot be used") % credential,
            " ".join(error.messages),
            _("Enter the key again."),
        ) from error
