"""The process in which the bytes of strangers are decoded; started by :class:`engine.data.intake.Decoder`.

python -m engine.data.worker SOCKET_FD MEMORY_BYTES
"""

from __future__ import annotations

import math
import resource
import socket
import sys
from typing import Any

from engine.api import FitRequest
from engine.data.intake import open_photo, receive, send
from engine.errors import GanvasError, UnreadableImage


def main() -> None:
    """Answer jobs until the other end of the socket is closed."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    memory = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # a decoder has nothing to write
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            job, data = receive(channel)
        except (EOFError, ConnectionError):
            return
        _limit_seconds(job["seconds"])
        try:
            answer, payload = _do(job, bytes(data))
        except GanvasError as error:
            answer, payload = {"error": error.to_wire()}, memoryview(b"")
        except MemoryError:
            too_much = UnreadableImage("This picture needs more memory than one picture may take; send a smaller one.")
            answer, payload = {"error": too_much.to_wire()}, memoryview(b"")
        del data
        send(channel, answer, payload)


def _limit_seconds(seconds: float) -> None:
    """Let the kernel end this process if one job takes more than ``seconds`` of the processor."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _do(job: dict[str, Any], data: bytes) -> tuple[dict[str, Any], memoryview]:
    if job["do"] == "open":
        pixels = open_photo(data, max_side=job["max_side"], max_pixels=job["max_pixels"])
        return {"shape": pixels.shape}, pixels.reshape(-1).data
    from engine.media import fit  # brings FFmpeg, which plain photos do without

    output, notes = fit(FitRequest(image=data, **job["options"]))
    about = {name: getattr(output, name) for name in ("format", "width", "height", "frames", "recipe")}
    return {"output": about, "notes": notes}, memoryview(output.data)


if __name__ == "__main__":
    main()
