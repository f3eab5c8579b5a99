"""Stands in for a voice's program, and behaves as badly as a text tells it to.

python voice_program.py SETTINGS    with a line of JSON for each text, as `omni_watch.duplex.embedded.voices.program`

The sound of a text has as many samples as the text has letters.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def tell(message: dict[str, Any], body: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n" + body)
    sys.stdout.buffer.flush()


def main() -> None:
    for line in sys.stdin:
        text = json.loads(line)["text"]
        if text == "die":
            sys.stderr.write("out of paper\n")
            sys.stderr.flush()
            os._exit(3)
        if text == "hang":
            time.sleep(600)
        if text.startswith("slow"):
            time.sleep(0.2)
        if text == "nonsense":
            sys.stdout.write("Segmentation fault\n")
            sys.stdout.flush()
            continue
        if text == "nothing":
            tell({"is": "unsaid", "why": "there is nothing to say"})
        else:
            body = b"\1\0" * len(text)
            tell({"is": "sound", "rate_hz": 24_000, "bytes": len(body)}, body)


if __name__ == "__main__":
    main()
