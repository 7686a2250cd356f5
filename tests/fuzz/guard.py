"""What a process that reads strangers' files may not do, noticed by an audit hook: connect, execute, write elsewhere."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from typing import Any

LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "")
violations: list[str] = []


def watch(folder: str) -> None:
    """From now on all that is done elsewhere than in `folder` and the folder of temporary files goes to `violations`."""
    places = tuple(os.path.realpath(place) for place in (folder, tempfile.gettempdir(), "/dev", "/proc"))

    def look(event: str, args: tuple[Any, ...]) -> None:
        violation = _violation(event, args, places)
        if violation and len(violations) < 100:
            violations.append(violation)
            if event.startswith("socket"):
                raise PermissionError(violation)

    sys.addaudithook(look)


def record(log: str, *folders: str) -> None:
    """The same in any interpreter, whose audit hook appends each violation to the file `log` and makes it fail.

    Packages may start programs. Their folder is one that cannot be written, as it is for most users, and so is `sys.prefix`.
    """
    places = tuple(os.path.realpath(place) for place in (log, *folders, "/dev", "/proc"))

    def look(event: str, args: tuple[Any, ...]) -> None:
        violation = "" if event.startswith(("subprocess", "os.")) else _violation(event, args, places)
        if not violation or (event == "open" and ".pyc" in os.fsdecode(args[0])):  # Python's own, of what it imports
            return
        if event != "open" or not os.fsdecode(args[0]).startswith(sys.prefix):
            file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, f"{violation}\n".encode())
            os.close(file)
        raise PermissionError(13, violation)

    sys.addaudithook(look)


def _violation(event: str, args: tuple[Any, ...], places: tuple[str, ...]) -> str:
    if event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple) and str(args[1][0]) not in LOOPBACK:
        return f"a connection to {args[1][0]}"
    if event == "socket.getaddrinfo" and not _is_address(str(args[0])):
        return f"a look-up of {args[0]}"
    if event in ("os.system", "os.exec", "os.posix_spawn") or (event == "subprocess.Popen" and args[0] != sys.executable):
        return f"{event} of {args[0]!r:.80}"
    if event == "open" and _writes(args) and not os.path.realpath(os.fsdecode(args[0])).startswith(places):
        return f"{args[0]!r:.80} opened for writing"
    return ""


def _is_address(host: str) -> bool:
    """Whether it needs no look-up; 169.254.169.254 is where clouds say what a machine is."""
    return host in ("None", "localhost", "") or (
        bool(re.fullmatch(r"[0-9.]+|[0-9a-f:]*:[0-9a-f:.]*", host)) and not host.startswith("169.254")
    )


def _writes(args: tuple[Any, ...]) -> bool:
    path, _, flags = args
    return isinstance(path, str | bytes) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
