#!/usr/bin/env python3
"""Launch a deployment from a CI job, follow its log and exit with its result: one file for Python 3.8 and newer.

The site is named by DEPLOYER_URL, the token by DEPLOYER_TOKEN. Exit statuses are those of `deployer deploy`:
0 success, 1 failed, 2 refused, 3 cancelled, 4 interrupted or not known, 5 expired; then 124 for --timeout,
130 and 143 for a job that was stopped.

Whatever comes from the site is printed behind "[NAME] ", without control characters, and with a space inside the marks
by which CI systems know a command wherever they stand in a line.
"""

import argparse
import http.client
import json
import os
import re
import signal
import ssl
import sys
import threading
import time
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
import uuid
from functools import partial
from typing import Any, Dict, NoReturn, Optional

EXIT_STATUS = {"success": 0, "failed": 1, "cancelled": 3, "interrupted": 4, "expired": 5}
REFUSED = 2
UNKNOWN = 4
TIMED_OUT = 124

WAIT = 20  # seconds that the site may keep a question for the log
ANSWERED_IN = 30  # seconds, beyond those, until a link counts as broken
OUTAGE = 300  # seconds that the site may be away
PAUSES = (1, 2, 4, 8, 15)  # seconds between two tries
LONGEST_PAUSE = 120  # of what the site may ask for
CANCELLED_IN = 5  # seconds: a CI system ends a cancelled job soon
LARGEST = 64 << 20  # bytes of an answer
_TOLD = 200  # servers in a summary

_SEQUENCE = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[PX^_][^\x1b]*(?:\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?"
)
#: Of GitHub ("##[group]"), Azure ("##vso[") and TeamCity ("##teamcity["): they look for it anywhere in a line.
_COMMAND = re.compile(r"##(?=\w*\[)")


class AwayError(Exception):
    """The site cannot be reached, or is not itself; ``pause`` is how many seconds it asks to be left alone."""

    def __init__(self, why: str, pause: Optional[float] = None) -> None:
        super().__init__(why)
        self.pause = pause


class RefusalError(Exception):
    """The site has understood and says no; ``field`` is the name at fault."""

    def __init__(self, why: str, field: str = "") -> None:
        super().__init__(why)
        self.field = field


class StoppedError(Exception):
    """The job was stopped, or its time is over; ``exit_status`` says which."""

    def __init__(self, exit_status: int) -> None:
        super().__init__(exit_status)
        self.exit_status = exit_status


class Log:
    """Standard output, as a CI system may show it. The token is never in it."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.altered = 0

    def harmless(self, text: str) -> str:
        """One line of ``text`` that neither a terminal nor a CI system takes as a command."""
        text = re.sub(r"[\r\n]+", " ", _SEQUENCE.sub("", text).rstrip("\r\n"))
        text = "".join(it for it in text if it == "\t" or unicodedata.category(it) not in _SHOWS_NOTHING)
        if self._token:
            text = text.replace(self._token, "***")
        found = _COMMAND.sub("# #", text)
        self.altered += found != text
        return found

    def say(self, text: str, who: str = "deployer") -> None:
        # Behind a bracket no system looks for "::set-output" or "section_start".
        print(f"[{self.harmless(who)}] {self.harmless(text)}", flush=True)

    def end(self) -> None:
        """Say whether something was altered."""
        if self.altered:
            self.say(f"{self.altered} times a mark of CI commands was made harmless by a space between two #.")


#: Control and format characters, lone halves of a pair, separators of lines and paragraphs.
_SHOWS_NOTHING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token to wherever it leads."""

    def redirect_request(self, *_args: Any, **_values: Any) -> None:
        return None


class Site:
    """The JSON API of an installation."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(
        self,
        path: str,
        body: Optional[Dict[str, Any]] = None,
        key: str = "",
        method: str = "GET",
        limit: float = ANSWERED_IN,
    ) -> Any:
        """What the site answers. Raises `AwayError` where asking again may help, `RefusalError` where it does not."""
        headers = {
            "Authorization": "Bearer " + self._token,
            "Accept": "application/json",
            "User-Agent": "deployer-ci",
        }
        data = None
        if method == "POST":
            data = json.dumps(body or {}).encode()
            headers["Content-Type"] = "application/json"
        if key:
            headers["Idempotency-Key"] = key
        request = urllib.request.Request(self.url + "/api/v1" + path, data, headers, method=method)  # noqa: S310
        try:
            try:
                with self._opener.open(request, timeout=limit) as answer:
                    status, header, content = answer.status, answer.headers, _read(answer, limit)
            except urllib.error.HTTPError as error:
                with error:
                    status, header, content = error.code, error.headers, _read(error, limit)
        except ssl.SSLCertVerificationError as error:
            raise RefusalError(f"the certificate of {self.url} is not trusted: {error}") from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise RefusalError(f"the certificate of {self.url} is not trusted: {error.reason}") from error
            raise AwayError(str(error.reason)) from error
        except (OSError, http.client.HTTPException) as error:
            raise AwayError(str(error) or type(error).__name__) from error
        return _judged(status, header, content)


def _read(answer: Any, limit: float) -> bytes:
    """The whole answer, which comes in time and is not too large."""
    until, pieces, size = time.monotonic() + limit, [], 0
    while True:
        piece = answer.read1(1 << 16) if hasattr(answer, "read1") else answer.read(1 << 16)
        if not piece:
            break
        size += len(piece)
        pieces.append(piece)
        if size > LARGEST or time.monotonic() > until:
            raise AwayError("its answer is too long or too slow")
    length = answer.headers.get("Content-Length", "")
    if length.isdigit() and size < int(length):
        raise AwayError("its answer was cut off")
    return b"".join(pieces)


def _judged(status: int, header: Any, content: bytes) -> Any:
    try:
        found = json.loads(content.decode())
    except ValueError:
        found = None
    detail = found.get("detail") if isinstance(found, dict) else None
    if 200 <= status < 300:
        if not isinstance(found, dict):  # what stands before it speaks
            raise AwayError(f"it answers {status} without JSON")
        return found
    if 300 <= status < 400:
        raise RefusalError(
            f"it leads to {header.get('Location', 'elsewhere')}: name the address behind that in DEPLOYER_URL"
        )
    why = f"it answers {status}" + (f": {detail}" if detail else "")
    pause = _seconds(header.get("Retry-After", ""))
    if status in (408, 425, 429) or status >= 500 or (status == 409 and pause is not None):
        raise AwayError(why, pause)
    raise RefusalError(str(detail) if detail else why, str(found.get("field")) if isinstance(found, dict) else "")


def _seconds(text: str) -> Optional[float]:
    return min(float(text), LONGEST_PAUSE) if re.fullmatch(r"[0-9]{1,9}", text) else None


class Job:
    """One launch and what becomes of it."""

    def __init__(self, site: Site, log: Log, chosen: argparse.Namespace) -> None:
        self.site, self.log, self.chosen = site, log, chosen
        self.until = time.monotonic() + chosen.timeout if chosen.timeout else None
        self._stop = threading.Event()
        self._stopped_by = 0
        self._may_leave = False
        self._sent = 0
        self._state = ""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stopped)

    def _stopped(self, number: int, _frame: Any) -> None:
        self._stopped_by = self._stopped_by or number
        self._stop.set()
        if self._may_leave:
            self._may_leave = False
            raise StoppedError(128 + number)

    def run(self) -> int:
        """Launch it and follow it; gives the exit status."""
        launched = self.launch()
        number = launched["id"]
        self.log.say("Deployment #{}: {}".format(number, launched.get("url", "")))
        try:
            self._may_leave = True
            if self._stop.is_set():
                raise StoppedError(128 + self._stopped_by)
            if not self.chosen.follow:
                return 0
            last = self.follow(number)
            self._may_leave = False
        except StoppedError as error:
            self._may_leave = False
            self.leave(number, error.exit_status)
            return error.exit_status
        except (AwayError, RefusalError) as error:
            self._may_leave = False
            self.log.say(f"The outcome of deployment #{number} is not known: {error}")
            return UNKNOWN
        return self.summarise(last)

    def launch(self) -> Any:
        """The new deployment. However often this is sent, by its key it is launched once."""
        chosen = self.chosen
        asked = {
            "project": chosen.project,
            "server_groups": chosen.group or None,
            "servers": chosen.server or None,
            "deployment_type": chosen.type,
            "branch": chosen.commit or chosen.branch,
            "release": chosen.release,
            "queue": chosen.queue or None,
        }
        body = {name: value for name, value in asked.items() if value is not None}
        key = chosen.key or f"ci-{uuid.uuid4()}"

        def send() -> Any:
            if self._stop.is_set():
                raise StoppedError(128 + self._stopped_by)
            self._sent += 1
            found = self.site.ask("/deployments", body, key, "POST")
            if not isinstance(found.get("id"), int):
                raise AwayError("its answer is no deployment")
            return found

        try:
            return self.patiently(send)
        except StoppedError as error:
            self.log.say("Stopped before the launch was answered. " + self._look())
            sys.exit(error.exit_status)
        except AwayError as error:
            self.log.say(f"The site did not answer: {error}. {self._look()}")
            sys.exit(UNKNOWN)
        except RefusalError as error:
            if self._sent > 1 and error.field == "idempotency_key":  # an earlier try was heard and not answered
                self.log.say(f"{error} {self._look()}")
                sys.exit(UNKNOWN)
            self.log.say(f"Refused: {error}")
            sys.exit(REFUSED)

    def _look(self) -> str:
        if not self._sent:
            return "Nothing was launched."
        return f"It may have been launched, look at {self.site.url}/deployments/"

    def patiently(self, ask: Any) -> Any:
        """What ``ask`` gives, asked again while the site is away. Raises `AwayError` after `OUTAGE` seconds."""
        began, tries, told = time.monotonic(), 0, False
        while True:
            try:
                return ask()
            except AwayError as error:
                now = time.monotonic()
                pause = error.pause if error.pause is not None else PAUSES[min(tries, len(PAUSES) - 1)]
                tries += 1
                if now + pause > began + OUTAGE:
                    raise
                self._not_too_late(pause)
                if not told:
                    self.log.say(f"The site does not answer as it should: {error}. Trying again.")
                    told = True
                self.rest(pause)

    def _not_too_late(self, pause: float = 0) -> None:
        if self.until is not None and time.monotonic() + pause > self.until:
            raise StoppedError(TIMED_OUT)

    def rest(self, seconds: float) -> None:
        """Wait; a stop ends it."""
        self._stop.wait(seconds)

    def follow(self, number: int) -> Any:
        """Print the log to its end; gives the deployment as it is then."""
        last, state, looked = 0, None, 0.0
        while True:
            self._not_too_late()
            page = self.patiently(partial(self._page, number, last))
            for line in page["lines"]:
                self.log.say(str(line.get("content", "")), str(line.get("server") or "deployer"))
            last = page["last_id"]
            if page["done"]:
                return self.patiently(partial(self.site.ask, f"/deployments/{number}"))
            if not page["lines"]:
                if time.monotonic() - looked > WAIT / 2 or page["status"] != state:
                    looked, state = time.monotonic(), page["status"]
                    self.tell_state(self.patiently(partial(self.site.ask, f"/deployments/{number}")))
                self.rest(1)  # where too many wait, the site answers at once

    def _page(self, number: int, after: int) -> Any:
        wait = WAIT
        if self.until is not None:
            wait = max(0, min(WAIT, int(self.until - time.monotonic())))
        page = self.site.ask(f"/deployments/{number}/log?after={after}&wait={wait}", limit=wait + ANSWERED_IN)
        lines, last = page.get("lines"), page.get("last_id")
        whole = isinstance(lines, list) and all(isinstance(line, dict) for line in lines)
        if not whole or not isinstance(last, int) or not isinstance(page.get("done"), bool) or "status" not in page:
            raise AwayError("its answer is no log")
        return page

    def tell_state(self, deployment: Any) -> None:
        """What it waits for, once."""
        words = str(deployment.get("status", ""))
        if deployment.get("is_asking"):
            words = "it met failures and waits for an answer on its page"
        elif deployment.get("is_paused"):
            words = "it is paused until somebody continues it on its page"
        elif deployment.get("note"):
            words += ": {}".format(deployment["note"])
        if words != self._state:
            self._state = words
            self.log.say(words)

    def leave(self, number: int, exit_status: int) -> None:
        """Say that it goes on, or cancel it."""
        why = "The time is over" if exit_status == TIMED_OUT else "Stopped"
        if not self.chosen.cancel_on_stop:
            self.log.say(f"{why}: deployment #{number} goes on, look at {self.site.url}/deployments/{number}/")
            return
        path, key, until = f"/deployments/{number}/cancel", f"ci-{uuid.uuid4()}", time.monotonic() + CANCELLED_IN
        while True:
            try:
                self.site.ask(path, key=key, method="POST", limit=max(1, until - time.monotonic()))
            except AwayError as error:
                if time.monotonic() + 0.5 < until:
                    time.sleep(0.5)
                    continue
                self.log.say(f"{why}, and deployment #{number} could not be cancelled: {error}. It goes on.")
            except RefusalError as error:
                self.log.say(f"{why}, and deployment #{number} was not cancelled: {error}")
            else:
                self.log.say(f"{why}: deployment #{number} is being cancelled.")
            return

    def summarise(self, deployment: Any) -> int:
        """Say how it ended, server by server; gives the exit status."""
        targets = deployment.get("targets") or []
        for target in targets[:_TOLD]:
            words = ": ".join(filter(None, [str(target.get("status")), str(target.get("error") or "")]))
            self.log.say(words, str(target.get("server") or "deployer"))
        if len(targets) > _TOLD:
            self.log.say(f"and {len(targets) - _TOLD} more servers")
        status = str(deployment.get("status"))
        error = str(deployment.get("error_message") or "")
        self.log.say("Deployment #{}: {}.{}".format(deployment.get("id"), status, error and " " + error))
        return EXIT_STATUS.get(status, UNKNOWN)


def _site_of(text: str) -> str:
    """The address of a site without a slash at its end; or nothing where it is none."""
    try:
        parts = urllib.parse.urlsplit(text)
        _port = parts.port
    except ValueError:
        return ""
    whole = re.fullmatch(r"[!-~]+", text) and parts.scheme in ("http", "https") and parts.hostname
    return "" if not whole or "@" in parts.netloc or parts.query or parts.fragment else text.rstrip("/")


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,6}", text):
        raise argparse.ArgumentTypeError("expected seconds, at least 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deployer-ci.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--project", required=True, metavar="NAME")
    parser.add_argument("--group", action="append", metavar="NAME", help="a server group; repeatable; else its own")
    parser.add_argument("--server", action="append", metavar="NAME", help="only this server of them; repeatable")
    parser.add_argument("--type", default="full", help="full, restart_only, stop or start; default: %(default)s")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--branch", metavar="NAME", help="a branch or a tag; else the project's default branch")
    what.add_argument("--commit", metavar="SHA", help="this commit, whatever the branch is at by now")
    what.add_argument("--release", metavar="VERSION", help="a stored release: nothing is built")
    parser.add_argument("--queue", action="store_true", help="wait in line at a closed gate or behind another one")
    parser.add_argument("--key", metavar="KEY", help="the idempotency key; else one of this run")
    parser.add_argument("--no-follow", dest="follow", action="store_false", help="exit with 0 once it is launched")
    parser.add_argument("--timeout", type=_positive, metavar="SECONDS", help="stop following after so long")
    parser.add_argument("--cancel-on-stop", action="store_true", help="cancel it where the job stops or times out")
    return parser


def _refuse(sentence: str) -> NoReturn:
    print("[deployer] " + sentence, flush=True)
    sys.exit(REFUSED)


def main() -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]  # a C locale knows ASCII
    chosen = _parser().parse_args()
    url, token = _site_of(os.environ.get("DEPLOYER_URL", "").strip()), os.environ.get("DEPLOYER_TOKEN", "").strip()
    if not url:
        _refuse("Set DEPLOYER_URL to the address of the site, like https://deployer.example.com")
    if not re.fullmatch(r"[!-~]+", token):
        _refuse("Set DEPLOYER_TOKEN to an API token, as a secret of the CI system.")
    for name in ("key", "commit"):
        if getattr(chosen, name) is not None and not re.fullmatch(_PATTERNS[name], getattr(chosen, name)):
            _refuse(_EXPECTED[name])
    log = Log(token)
    if urllib.parse.urlsplit(url).scheme == "http":
        log.say("Over http anybody on the way can read the token: use https.")
    try:
        return Job(Site(url, token), log, chosen).run()
    finally:
        log.end()


_PATTERNS = {"key": r"[!-~]{1,255}", "commit": r"[0-9a-f]{40}|[0-9a-f]{64}"}
_EXPECTED = {
    "key": "--key: up to 255 visible ASCII characters.",
    "commit": "--commit: all 40 (or 64) digits of a commit.",
}


if __name__ == "__main__":
    sys.exit(main())
