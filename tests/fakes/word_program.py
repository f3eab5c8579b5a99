"""Stands in for the program that recognises speech, and behaves as badly as it is told: see MODES.

python word_program.py MODE SETTINGS
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from omni_watch.duplex.embedded.words.wire import packed, unpacked

MODES = ("well", "dies", "mute", "stuck", "cannot", "never_ready")


def say(**message: Any) -> None:
    sys.stdout.buffer.write(packed(message))
    sys.stdout.buffer.flush()


def main(mode: str) -> None:
    if mode == "cannot":
        say(**{"is": "failed", "why": "the model is for another planet", "can_retry": False})
        return
    if mode == "never_ready":
        time.sleep(600)
    say(**{"is": "ready"})
    heard = 0
    while (request := unpacked(sys.stdin.buffer)) is not None:
        message, body = request
        if mode == "dies" and message["do"] == "hear":
            sys.stderr.write("out of paper\n")
            sys.stderr.flush()
            os._exit(3)
        if mode == "mute":
            time.sleep(600)
        heard += len(body) // 2
        if message["do"] == "ping":
            say(**{"is": "alive", "waiting": 2, "job": 7 if mode == "stuck" else 0})
        if message["do"] == "settle":
            say(**{"is": "settled", "mark": message["mark"]})
        if message["do"] == "expect":
            say(**{"is": "heard", "feed": "words", "start_s": 0.0, "end_s": 1.0, "text": repr(message["words"]),
                   "language": "en", "confidence": 1.0, "alternatives": [], "is_cut": False})  # fmt: skip
        if message["do"] == "hear":
            say(**{"is": "unheard", "feed": message["feed"], "start_s": message["at_s"], "end_s": float(heard),
                   "cause": "behind"})  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
