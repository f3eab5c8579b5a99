"""What people say in the house, from their voice to our answer. Nothing here is waited for by a heartbeat."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from omni_watch.alerts.answers import Answers
from omni_watch.app.giving_way import GivingWay
from omni_watch.app.talking import Conversation, Said
from omni_watch.domain.errors import OmniWatchError, StoreError
from omni_watch.domain.hearing import Heard, Hearing, SpeechBegan
from omni_watch.domain.rules import Language
from omni_watch.watch.barge_in import Heed
from omni_watch.watch.ports import Clock, Observer, WordListener
from omni_watch.watch.supervise import supervise

WAITING_MAX: Final = 4  # sentences, while one is being carried out; the oldest is dropped, and reported
SAME_SHARE: Final = 0.5  # of the shorter of two utterances: overlapping so much, they are one, heard in two places
AGAIN_S: Final = 600.0  # ears that failed too often are tried again after so long
FILE_BYTES: Final = 1_000_000  # of what was heard, twice: the file and the one before it


@dataclass(frozen=True, slots=True)
class _Taken:
    """An utterance that we acted on."""

    feed: str
    start_s: float
    end_s: float


class Listening:
    """Loop thread only."""

    def __init__(
        self,
        ears: WordListener,
        conversation: Conversation,
        answers: Answers | None,
        giving_way: GivingWay,
        *,
        clock: Clock,
        observer: Observer,
        on_change: Callable[[], None],
        on_hush: Callable[[], None] = lambda: None,
        language: Language = "en",
        keep: HeardFile | None = None,
    ) -> None:
        """`answers`: None where nothing is said aloud. `on_change`: called after a request was carried out; `on_hush`:
        when a person wants us to be quiet. `language`: that is mostly spoken here."""
        self._ears = ears
        self._conversation = conversation
        self._answers = answers
        self._giving_way = giving_way
        giving_way.barge_in.is_request = lambda text, _: conversation.is_request(text, clock.now())
        self._clock = clock
        self._observer = observer
        self._on_change = on_change
        self._on_hush = on_hush
        self._keep = keep
        self._waiting: asyncio.Queue[Heard] = asyncio.Queue(WAITING_MAX)
        self._taken: _Taken | None = None
        self._own = language
        self._language: Language = language  # of the last answer
        self._answered: set[Language] = set()
        self._speaking: asyncio.Task[None] | None = None

    def hear(self, feed: str, start_s: float, samples: NDArray[np.float32]) -> None:
        """A block of a feed's sound, as it comes; see `WordListener.hear`."""
        self._ears.hear(feed, start_s, samples)

    @property
    def answered(self) -> frozenset[Language]:
        """The languages in which somebody asked us for something since we listen."""
        return frozenset(self._answered)

    async def look(self) -> None:
        """Tasks may have changed, and with them the words that are likely."""
        self._ears.expect(await self._conversation.hot_words())

    async def run(self) -> None:
        """Listen and answer until cancelled. Ears that cannot work are an ability less, not the end of the watch."""
        while True:
            try:
                await supervise("words", self._listen, observer=self._observer, clock=self._clock)
            except* OmniWatchError as errors:
                self._observer.on("words.failed", why=str(_first(errors)), again_in_s=AGAIN_S)
            await asyncio.sleep(AGAIN_S)

    async def _listen(self) -> None:
        async with asyncio.TaskGroup() as together:
            together.create_task(self._ears.run(self._deliver), name="ears for words")
            together.create_task(self._take_all(together), name="requests")

    def _deliver(self, hearing: Hearing) -> None:
        if self._giving_way.hears(hearing) is Heed.OURS:
            return
        if isinstance(hearing, SpeechBegan) and self._answers is not None:
            for language in sorted({self._own, self._language, *self._conversation.languages}):
                self._answers.expect(language)
        if not isinstance(hearing, Heard):
            return
        if self._waiting.full():
            lost = self._waiting.get_nowait()
            self._observer.on("words.dropped", feed=lost.feed, seconds=round(lost.end_s - lost.start_s, 1))
        self._waiting.put_nowait(hearing)

    async def _take_all(self, together: asyncio.TaskGroup) -> None:
        while True:
            heard = await self._waiting.get()
            try:
                said = await self._take(heard)
            except StoreError as error:
                self._observer.on("store.failed", why=str(error))
                self._answer(together, heard.feed, self._conversation.not_kept(heard.language), heard.language)
            else:
                if said is not None:
                    self._answer(together, heard.feed, said.reply, said.language)

    def _answer(self, together: asyncio.TaskGroup, feed: str, text: str, language: Language) -> None:
        """Say it, in place of the answer that is being said: who asks for something new has heard enough."""
        if self._answers is None or not text:
            return
        self._language = language
        self._answered.add(language)
        if self._speaking is not None:
            self._speaking.cancel()
        self._speaking = together.create_task(self._say(self._answers, feed, text, language), name="answer")

    async def _say(self, answers: Answers, feed: str, text: str, language: Language) -> None:
        await answers.say(text, language)
        self._conversation.spoken(feed, self._clock.now())

    async def _take(self, heard: Heard) -> Said | None:
        """Carry out what was asked for; None when nothing was."""
        if self._was_taken(heard):
            return None
        said = await self._conversation.hears(heard, self._clock.at(heard.end_s))
        if self._keep is not None:
            await asyncio.to_thread(self._keep.write, self._clock.now(), heard, said)
        if said is None:
            return None
        self._taken = _Taken(heard.feed, heard.start_s, heard.end_s)
        self._observer.on(
            "words.understood",
            feed=heard.feed,
            op=said.op,
            language=said.language,
            task_ids=said.task_ids,
            after_s=round(self._clock.monotonic() - heard.end_s, 3),
        )
        self._on_change()
        if said.is_hush:
            self._on_hush()
        return said

    def _was_taken(self, heard: Heard) -> bool:
        """Whether another feed heard the same words, and they were acted on."""
        taken = self._taken
        if taken is None or taken.feed == heard.feed:
            return False
        shared_s = min(taken.end_s, heard.end_s) - max(taken.start_s, heard.start_s)
        return shared_s > SAME_SHARE * min(taken.end_s - taken.start_s, heard.end_s - heard.start_s)


class _SilentHandler(RotatingFileHandler):
    """Says nothing of a line that cannot be written: the library would print it, and with it what was heard."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        pass


class HeardFile:
    """What was heard and answered, one JSON object a line: for a person who asked for it. Any one thread at a time."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._file = _SilentHandler(path, maxBytes=FILE_BYTES, backupCount=1, encoding="utf-8")

    def write(self, at: datetime, heard: Heard, said: Said | None) -> None:
        """A disk that is full is no reason to stop listening; then nothing is kept."""
        line: dict[str, Any] = {
            "at": at.isoformat(timespec="milliseconds"),
            "feed": heard.feed,
            "heard": heard.text,
            "language": heard.language,
            "op": None if said is None else said.op,
            "reply": None if said is None else said.reply,
        }
        self._file.emit(logging.makeLogRecord({"msg": json.dumps(line, ensure_ascii=False)}))

    def close(self) -> None:
        with suppress(OSError):  # a full disk: what was not written yet is lost, as any line would be
            self._file.close()


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    inner: Sequence[BaseException] = errors.exceptions
    return _first(inner[0]) if isinstance(inner[0], BaseExceptionGroup) else inner[0]
