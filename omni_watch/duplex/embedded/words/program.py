"""The program that recognises: sound of all feeds comes in, what was said goes out. See `wire` for the messages.

    python -m omni_watch.duplex.embedded.words.program SETTINGS

SETTINGS is a JSON object: {"voice_activity": path, "whisper": {"weights", "config", "tokenizer", "vocabulary"},
"languages": […], "threads": 1, "niceness": 5}. One thread listens, the other recognises. It ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from omni_watch.domain.errors import ModelError
from omni_watch.domain.hearing import Hearing, SpeechBegan, SpeechEnded, Unheard, UnheardCause
from omni_watch.domain.rules import Language
from omni_watch.duplex.embedded.words.backlog import Backlog
from omni_watch.duplex.embedded.words.listening import (
    Change,
    FeedListening,
    GoesOn,
    MaybeAll,
    TooShort,
    VoiceBegan,
    VoiceEnded,
    VoiceNet,
)
from omni_watch.duplex.embedded.words.models import WhisperFiles
from omni_watch.duplex.embedded.words.recognizer import Recognizer
from omni_watch.duplex.embedded.words.voice_activity import VoiceActivity
from omni_watch.duplex.embedded.words.wire import message_of, packed, sound_of, unpacked


class Program:
    """Both threads' common state. `answers` is written whole messages at a time."""

    def __init__(self, activity: VoiceNet, recognizer: Recognizer, answers: BinaryIO) -> None:
        self._activity = activity
        self._recognizer = recognizer
        self._answers = answers
        self._listening: dict[str, FeedListening] = {}  # listening thread only
        self._changed = threading.Condition()  # of what follows, and of what is written
        self._backlog = Backlog()
        self._hot_words: Mapping[Language, Sequence[str]] = {}
        self._marks: list[int] = []  # of who waits until all is recognised
        self._is_over = False

    def run(self, requests: BinaryIO) -> None:
        """Serve until the input ends. ModelError: a net failed."""
        self._tell({"is": "ready"})
        working = threading.Thread(target=self._work, name="recognise", daemon=True)
        working.start()
        while (request := unpacked(requests)) is not None:
            self._serve(*request)
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def _serve(self, request: Mapping[str, Any], body: bytes) -> None:
        match request["do"]:
            case "hear":
                feed = request["feed"]
                listening = self._listening.setdefault(feed, FeedListening(self._activity))
                for change in listening.hear(request["at_s"], sound_of(body)):
                    self._heed(feed, change)
            case "expect":
                self._hot_words = request["words"]
            case "settle":
                with self._changed:
                    self._marks.append(request["mark"])
                    self._tell_settled()
            case "ping":
                with self._changed:
                    job = self._backlog.running
                    self._tell({"is": "alive", "waiting": len(self._backlog), "job": 0 if job is None else job.id})

    def _heed(self, feed: str, change: Change) -> None:
        with self._changed:
            match change:
                case VoiceBegan(at_s=at_s):
                    self._say(SpeechBegan(feed=feed, at_s=at_s))
                case MaybeAll(utterance):
                    self._backlog.offer(feed, utterance)
                case GoesOn():
                    self._backlog.withdraw(feed)
                case VoiceEnded(utterance):
                    self._say(SpeechEnded(feed=feed, start_s=utterance.start_s, end_s=utterance.end_s))
                    self._say(*self._backlog.settle(feed, utterance))
                case TooShort(start_s=start_s, end_s=end_s):
                    self._backlog.withdraw(feed)
                    self._say(SpeechEnded(feed=feed, start_s=start_s, end_s=end_s))
                    self._say(Unheard(feed=feed, start_s=start_s, end_s=end_s, cause=UnheardCause.NO_WORDS))
            self._changed.notify()

    def _work(self) -> None:
        """The recognising thread."""
        while True:
            with self._changed:
                while (job := self._backlog.take()) is None:
                    if self._is_over:
                        return
                    self._changed.wait()
            try:
                transcripts = self._recognizer.recognize(job.utterance.samples, self._hot_words)
            except ModelError as error:
                self._tell({"is": "failed", "why": str(error), "can_retry": error.can_retry})
                os._exit(1)  # the other thread waits for input that may never come
            with self._changed:
                self._say(*self._backlog.done(transcripts))
                self._tell_settled()

    def _tell_settled(self) -> None:
        """Who waits is told as soon as there is nothing left to recognise; what was recognised was told before."""
        if self._backlog.is_idle:
            for mark in self._marks:
                self._tell({"is": "settled", "mark": mark})
            self._marks.clear()

    def _say(self, *hearings: Hearing) -> None:
        for hearing in hearings:
            self._tell(message_of(hearing))

    def _tell(self, message: Mapping[str, Any]) -> None:
        with self._changed:
            self._answers.write(packed(message))
            self._answers.flush()


def main(settings: Mapping[str, Any]) -> int:
    """The exit status: 0 the input ended, 1 a model cannot be opened or failed."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print shall not be taken for an answer
    os.nice(settings["niceness"])
    try:
        activity = VoiceActivity(Path(settings["voice_activity"]))
        files = WhisperFiles(**{name: Path(path) for name, path in settings["whisper"].items()})
        recognizer = Recognizer(files, settings["languages"], threads=settings["threads"])
        Program(activity, recognizer, answers).run(sys.stdin.buffer)
    except ModelError as error:
        answers.write(packed({"is": "failed", "why": str(error), "can_retry": error.can_retry}))
        answers.flush()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
