"""Voices: text to sound by programs of their own, the best that is there first.

They run as separate programs because of their licences and their weight, and because a voice that crashes must not
take the house with it. Nothing here plays anything.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from omni_watch.alerts.kokoro import KokoroFiles, KokoroVoice
from omni_watch.alerts.mandarin import as_pinyin, has_han, parts
from omni_watch.alerts.piper import PiperVoice, find_piper
from omni_watch.alerts.shelf import SoundShelf
from omni_watch.alerts.texts import one_line, pause_s, sentences
from omni_watch.alerts.wav import Sound, joined, silence
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Language
from omni_watch.watch.ports import Observer, Voice

SPEAK_LIMIT_S: Final = 30.0
CACHE_BYTES: Final = 8_000_000  # about three minutes of speech
PATIENCE_S: Final = 4.0  # for a natural voice when somebody waits: beyond it a plain voice now is better
BREATHER_S: Final = 0.3  # between two sounds that are made ahead
HOLD_S: Final = 8.0  # nothing is made ahead while somebody speaks to us, is understood and answered
HOLD_MOST_S: Final = 60.0  # but in a room where somebody always speaks, a sound is made all the same
ESPEAK_VOICES: Final[Mapping[Language, str]] = {"en": "en-us", "zh": "cmn-latn-pinyin"}
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    """Which programs and model files the voices are made of."""

    piper: Path | None = None  # None: looked for beside our Python and on the path
    piper_model: Path | None = None  # an .onnx with its .onnx.json beside it; None: no Piper
    piper_language: Language = "en"
    piper_digest: str = ""  # of the model; empty: its sound is not kept on disk
    kokoro: KokoroFiles | None = None  # None: no Kokoro
    espeak: str = "espeak-ng"
    shelf: Path | None = None  # a folder for sounds that were made; None: they are kept in memory only


class EspeakVoice:
    """Implements `Voice`. Small and at once there; reads English and Mandarin, also within one sentence."""

    name = "espeak-ng"

    def __init__(self, program: str = "espeak-ng") -> None:
        self._program = program

    def speaks(self, language: Language) -> bool:
        return language in ESPEAK_VOICES or _LANGUAGE.fullmatch(language) is not None

    async def synthesize(self, text: str, language: Language) -> bytes:
        sounds = [await self._read(part, spoken) for spoken, part in parts(one_line(text), language)]
        if not sounds:
            raise ChannelUnavailable(f"{self.name}: there is nothing to say in a text of {len(text)} characters")
        return joined([sound.without_tail() for sound in sounds[:-1]] + sounds[-1:]).to_wav()

    async def _read(self, text: str, language: Language) -> Sound:
        if language == "zh":
            text = await asyncio.to_thread(as_pinyin, text)
        voice = ESPEAK_VOICES.get(language, language)
        plain = text.replace("[[", "( ").replace("]]", " )")  # double brackets would be read as phonemes
        command = [self._program, "-b", "1", "-v", voice, "--stdin", "--stdout"]
        return _sound(self.name, await run_program(self.name, command, plain.encode()))


@runtime_checkable
class LastingVoice(Voice, Protocol):
    """A voice whose program stays, and whose sound is worth keeping."""

    digest: str  # of its model and of all else that decides the sound; empty: nothing is kept on disk

    async def warm(self) -> None:
        """Start the program when it does not run. Never raises; may take seconds."""

    async def close(self) -> None: ...


class Speech:
    """Implements `Voice` by the first of several voices that can read a text, and remembers what was read.

    Read sentence by sentence, a long Chinese one clause by clause, so that the first can be heard while the next is
    made, and one that was said before is there at once. A message is the same each time: `prepare` when a task is set
    makes its alert speak without delay.
    """

    name = "speech"

    def __init__(
        self,
        voices: Sequence[Voice],
        observer: Observer,
        cache_bytes: int = CACHE_BYTES,
        shelf: SoundShelf | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`shelf`: where sounds of lasting voices are kept over a restart. `patience_s`: with one of these, while
        somebody waits for a sentence."""
        self._voices = tuple(voices)
        self._observer = observer
        self._cache_bytes = cache_bytes
        self._shelf = shelf
        self._cache: OrderedDict[tuple[str, ...], bytes] = OrderedDict()  # the last used is last
        self._asking = 0  # who waits for a sound now
        self._nobody_asks = asyncio.Event()
        self._nobody_asks.set()
        self._hold: asyncio.TimerHandle | None = None  # while somebody may ask in a moment
        self._nobody_will = asyncio.Event()
        self._nobody_will.set()
        self._warming: set[asyncio.Task[None]] = set()
        self._patience_s = patience_s
        self._late: dict[str, asyncio.Task[bytes]] = {}  # what nobody waits for any more, by its voice

    def speaks(self, language: Language) -> bool:
        return any(voice.speaks(language) for voice in self._voices)

    def voices(self, language: Language) -> list[str]:
        """Who would speak it, the first choice first."""
        return [voice.name for voice in self._voices if voice.speaks(language)]

    async def synthesize(self, text: str, language: Language) -> bytes:
        said = sentences(text) or [text]
        with self._asked():
            wavs = [await self._sentence(sentence, language) for sentence in said]
        if len(wavs) == 1:
            return wavs[0]
        return joined(list(_in_one_voice(wavs, said))).to_wav()

    async def stream(self, text: str, language: Language) -> AsyncGenerator[Sound, None]:
        """The sound of each sentence as soon as it is made, all at one rate: what `Speaker.stream` takes.

        Raises:
            ChannelUnavailable: no voice can read what comes next.
        """
        rate_hz: int | None = None
        before = ""
        with self._asked():  # all the while: what is made ahead would come between two sentences
            for sentence in sentences(text) or [text]:
                sound = _sound(self.name, await self._sentence(sentence, language))
                rate_hz = rate_hz or sound.rate_hz
                if before:
                    yield silence(pause_s(before), rate_hz)
                yield sound.at_rate(rate_hz)
                before = sentence
        self._hold_no_longer()  # who spoke has an answer

    async def prepare(self, text: str, language: Language) -> None:
        """Have the sound ready. Whoever asks for one goes first. A voice that fails is reported; speaking will try
        again."""
        try:
            for sentence in sentences(text) or [text]:
                await self._until_idle()
                await self._sentence(sentence, language, is_ahead=True)
        except ChannelUnavailable as error:
            self._observer.on("voice.not_prepared", why=str(error))

    def warm(self, language: Language) -> None:
        """Somebody may want to hear this language in a moment: have its best voice ready, and make nothing ahead for a
        while. Returns at once."""
        self._hold_back()
        voice = next((voice for voice in self._voices if voice.speaks(language)), None)
        if isinstance(voice, LastingVoice):
            warming = asyncio.create_task(voice.warm(), name="voice-warm")
            self._warming.add(warming)
            warming.add_done_callback(self._warming.discard)

    async def close(self) -> None:
        """End the programs that stay."""
        self._hold_no_longer()
        for task in (*self._warming, *self._late.values()):
            task.cancel()
        for voice in self._voices:
            if isinstance(voice, LastingVoice):
                await voice.close()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        self._asking += 1
        self._nobody_asks.clear()
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._nobody_asks.set()

    def _hold_back(self) -> None:
        """The last call counts."""
        self._hold_no_longer()
        self._nobody_will.clear()
        self._hold = asyncio.get_running_loop().call_later(HOLD_S, self._hold_no_longer)

    def _hold_no_longer(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        self._nobody_will.set()

    async def _until_idle(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD_MOST_S):
                await self._nobody_will.wait()
        await self._nobody_asks.wait()

    async def _sentence(self, text: str, language: Language, *, is_ahead: bool = False) -> bytes:
        """From memory, from the shelf, or by the first voice that can read it."""
        failures = []
        for voice in self._voices:
            if not _reads(voice, text, language):
                continue
            digest = voice.digest if isinstance(voice, LastingVoice) else ""
            key = (voice.name, digest, language, text)
            if (wav := await self._kept(key)) is not None:
                return wav
            making = self._make(voice, text, language, key)
            try:
                wav = await (making if is_ahead else self._in_time(voice, making))
            except ChannelUnavailable as error:
                self._observer.on("voice.failed", voice=voice.name, why=str(error))
                failures.append(str(error))
                continue
            if is_ahead:
                await asyncio.sleep(BREATHER_S)
            return wav
        raise ChannelUnavailable("; ".join(failures) or f"there is no voice for {language!r}; install espeak-ng")

    async def _make(self, voice: Voice, text: str, language: Language, key: tuple[str, ...]) -> bytes:
        wav = await voice.synthesize(text, language)
        await self._keep(key, wav)
        return wav

    async def _in_time(self, voice: Voice, making: Coroutine[Any, Any, bytes]) -> bytes:
        """The sound, if it comes while it is worth waiting for. One that comes later is kept for the next time, and
        until then the voice is left alone.

        Raises:
            ChannelUnavailable: the voice failed, or is too slow now.
        """
        if not isinstance(voice, LastingVoice):
            return await making
        if voice.name in self._late:
            making.close()
            raise ChannelUnavailable(f"{voice.name} is still busy with what it was asked before")
        task = asyncio.create_task(making, name=f"{voice.name}-make")
        try:
            async with asyncio.timeout(self._patience_s):
                return await asyncio.shield(task)
        except TimeoutError as error:
            self._late[voice.name] = task
            task.add_done_callback(partial(self._came_late, voice.name))
            raise ChannelUnavailable(f"{voice.name} was not done after {self._patience_s:g} s") from error
        except asyncio.CancelledError:
            task.cancel()
            raise

    def _came_late(self, voice: str, task: asyncio.Task[bytes]) -> None:
        del self._late[voice]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._observer.on("voice.failed", voice=voice, why=str(error))

    async def _kept(self, key: tuple[str, ...]) -> bytes | None:
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        if self._shelf is None or not key[1]:
            return None
        wav = await asyncio.to_thread(self._shelf.find, *key)
        if wav is not None:
            self._remember(key, wav)
        return wav

    async def _keep(self, key: tuple[str, ...], wav: bytes) -> None:
        self._remember(key, wav)
        if self._shelf is not None and key[1]:
            try:
                await asyncio.to_thread(self._shelf.keep, wav, *key)
            except OSError as error:
                self._observer.on("voice.not_kept", why=str(error))

    def _remember(self, key: tuple[str, ...], wav: bytes) -> None:
        self._cache[key] = wav
        while sum(map(len, self._cache.values())) > self._cache_bytes:
            self._cache.popitem(last=False)


def make_speech(settings: SpeechSettings, observer: Observer) -> Speech:
    """The natural voices whose programs and models are there, and espeak-ng for the rest and when one fails."""
    voices: list[Voice] = []
    program = find_piper(settings.piper)
    if settings.piper_model is not None and program is not None:
        language, digest = settings.piper_language, settings.piper_digest
        voices.append(PiperVoice(program, settings.piper_model, observer, language=language, digest=digest))
    if settings.kokoro is not None:
        voices.append(KokoroVoice(settings.kokoro, observer))
    voices.append(EspeakVoice(settings.espeak))
    return Speech(voices, observer, shelf=None if settings.shelf is None else SoundShelf(settings.shelf))


async def run_program(name: str, command: Sequence[str], text: bytes, limit_s: float = SPEAK_LIMIT_S) -> bytes:
    """What a program writes to its standard output after reading `text`. It is killed when this is cancelled.

    Raises:
        ChannelUnavailable: it is missing, fails, or takes too long.
    """
    pipe = asyncio.subprocess.PIPE
    try:
        # a session of its own: Ctrl-C at a terminal stops us in order, not a voice in the middle of a word
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except OSError as error:
        raise ChannelUnavailable(f"{name}: cannot run {command[0]}: {error.strerror}; is it installed?") from error
    try:
        async with asyncio.timeout(limit_s):
            written, complaints = await process.communicate(text)
    except TimeoutError as error:
        raise ChannelUnavailable(f"{name} was not done after {limit_s:g} s") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        last = complaints.decode(errors="replace").strip().splitlines()[-1:]
        raise ChannelUnavailable(f"{name} failed ({process.returncode}): {''.join(last) or 'it did not say why'}")
    return written


def _sound(name: str, wav: bytes) -> Sound:
    try:
        return Sound.from_wav(wav)
    except ValueError as error:
        raise ChannelUnavailable(f"{name} gave no sound: {error}") from error


def _reads(voice: Voice, text: str, language: Language) -> bool:
    """Whether this voice can read every script in the text. Who speaks Chinese reads English words, too."""
    if has_han(text):
        return voice.speaks("zh") and (language == "en" or voice.speaks(language))
    return voice.speaks(language)


def _in_one_voice(wavs: Sequence[bytes], said: Sequence[str]) -> Iterator[Sound]:
    """Sounds at the rate of the first, with pauses between them. `said`: in each."""
    rate_hz: int | None = None
    for number, wav in enumerate(wavs):
        sound = _sound(Speech.name, wav)
        rate_hz = rate_hz or sound.rate_hz
        if number:
            yield silence(pause_s(said[number - 1]), rate_hz)
        yield sound.at_rate(rate_hz)
