"""``python -m deployer.releases.reader ORDER``: carry out one order and say how it ended.

Standard input is the archive, standard output takes the lines of the manifest and, behind them, ``=`` for a whole one
or ``!`` with the refusal as JSON. ORDER is JSON: see `deployer.releases.reading`.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

from deployer.releases.reader.limits import PIECE, SHOWN, Limits, RefusedError
from deployer.releases.reader.work import Package, Tell, check, copy

_PR_SET_PDEATHSIG = 1
#: What the libraries raise, besides much else, where a stream wants more memory than it may have.
_WANTS_MEMORY = ("memory usage limit", "too much memory", "allocation error", "allocate")


def _bind(order: dict[str, Any]) -> None:
    """Take the limits on, before anything is read."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != order["parent"]:
        os._exit(1)
    for what, most, grace in (
        (resource.RLIMIT_AS, order["memory"], 0),
        (resource.RLIMIT_CPU, order["seconds"], 5),  # first SIGXCPU, which tells why it ended
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NPROC, 0, 0),
    ):
        _soft, hard = resource.getrlimit(what)
        whole = most + grace if hard == resource.RLIM_INFINITY else min(most + grace, hard)
        resource.setrlimit(what, (min(most, whole), whole))


def _carry_out(order: dict[str, Any], tell: Tell) -> None:
    limits = Limits(order["files"], order["size"], order["keep_free"])
    os.lseek(0, 0, os.SEEK_SET)
    with open(0, "rb", buffering=PIECE, closefd=False) as file:
        if "target" not in order:
            check(order["kind"], file, limits, tell)
            return
        with open(order["target"], "wb", buffering=PIECE, closefd=False) as target:
            name = order["name"].encode(errors="surrogateescape")
            copy(Package(order["kind"], name, order["encoding"]), file, target, limits, tell)


def _refusal(error: Exception) -> dict[str, str]:
    if isinstance(error, RefusedError):
        return {"code": error.code, "name": error.name[:SHOWN].decode("latin-1"), "detail": error.detail}
    words = str(error) or type(error).__name__
    if isinstance(error, MemoryError) or any(each in words.lower() for each in _WANTS_MEMORY):
        return {"code": "memory", "name": "", "detail": ""}
    return {"code": "damaged", "name": "", "detail": words[:SHOWN]}


def main() -> int:
    """Carry out the order of the command line."""
    order = json.loads(sys.argv[1])
    _bind(order)
    output = open(1, "wb", buffering=PIECE, closefd=False)  # noqa: SIM115 (to the end of this process)
    try:
        _carry_out(order, output.write)
        output.write(b"=\n")
    except Exception as error:  # noqa: BLE001 (whatever a hostile archive makes of the libraries is a refusal)
        refusal = _refusal(error)
        del error
        output.write(b"!" + json.dumps(refusal).encode() + b"\n")
    with contextlib.suppress(BrokenPipeError):
        output.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
