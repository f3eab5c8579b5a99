"""Real voices in their own programs, into files and into a room: what is heard is speech, and it stops when told."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from omni_watch.alerts.piper import PiperVoice, find_piper
from omni_watch.alerts.player import NoDeviceError, find_output
from omni_watch.alerts.speakers import FileSpeaker, PortAudioSpeaker
from omni_watch.alerts.speech import EspeakVoice, Speech, SpeechSettings, make_speech, run_program
from omni_watch.alerts.voice import VoiceChannel
from omni_watch.alerts.wav import Sound
from omni_watch.cabinet import Cabinet
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Language, Priority
from omni_watch.telemetry.clock import SystemClock
from tests.fakes.fake_channel import alert, delivery
from tests.fakes.fake_observer import FakeObserver
from tests.fixtures_pulse import Room


class CountingVoice:
    """Remembers what it was asked to read; fails as long as `trouble` says so."""

    def __init__(self, name: str, *languages: Language, trouble: str = "") -> None:
        self.name = name
        self.languages = languages
        self.trouble = trouble
        self.read: list[str] = []

    def speaks(self, language: Language) -> bool:
        return language in self.languages

    async def synthesize(self, text: str, language: Language) -> bytes:
        self.read.append(text)
        if self.trouble:
            raise ChannelUnavailable(self.trouble)
        return f"{self.name}: {text}".encode()


def loudness(sound: Sound) -> float:
    """Root mean square, 0..1."""
    return float(np.sqrt(np.mean((np.frombuffer(sound.pcm, "<i2") / 32768.0) ** 2)))


# --- the programs ---


@pytest.mark.parametrize(
    ("text", "language", "least_s", "most_s"),
    [
        ("The kettle is full.", "en", 0.8, 3.0),
        ("水壶满了。", "zh", 0.6, 3.0),
        ("请看 kettle 一下，已经 90% 了！", "zh", 1.5, 8.0),
        ("The task 水壶满了 is done.", "en", 1.2, 6.0),
        ("-v de --version <b>[[x]]</b> $(date)", "en", 0.5, 12.0),
    ],
    ids=["English", "Chinese", "English in Chinese", "Chinese in English", "what looks like options"],
)
async def test_espeak_reads_every_text_aloud(text: str, language: str, least_s: float, most_s: float) -> None:
    sound = Sound.from_wav(await EspeakVoice().synthesize(text, language))
    assert least_s <= sound.duration_s <= most_s
    assert sound.rate_hz == 22_050
    assert loudness(sound) > 0.02


async def test_chinese_is_read_as_syllables_and_not_as_letters() -> None:
    short = Sound.from_wav(await EspeakVoice().synthesize("满", "zh"))
    long = Sound.from_wav(await EspeakVoice().synthesize("水壶已经满了请过来看", "zh"))
    assert long.duration_s > short.duration_s + 1.0


async def test_a_text_without_words_is_no_crash() -> None:
    with pytest.raises(ChannelUnavailable, match="nothing to say"):
        await EspeakVoice().synthesize("… !!", "en")


async def test_a_language_that_nobody_speaks_is_explained() -> None:
    with pytest.raises(ChannelUnavailable, match="espeak-ng failed"):
        await EspeakVoice().synthesize("nuqneH", "qqq")


@asynccontextmanager
async def piper_of(cabinet: Cabinet, observer: FakeObserver | None = None) -> AsyncIterator[PiperVoice]:
    program = find_piper()
    assert program is not None, "piper-tts is not installed; `make setup` installs it"
    voice = PiperVoice(program, cabinet.path("voice-en"), observer or FakeObserver())
    try:
        yield voice
    finally:
        await voice.close()


async def test_piper_reads_english_in_its_own_program(cabinet: Cabinet) -> None:
    async with piper_of(cabinet) as voice:
        sound = Sound.from_wav(await voice.synthesize("The kettle is full.\nCome and see.", "en"))
    assert sound.rate_hz == 22_050
    assert 1.2 <= sound.duration_s <= 4.0
    assert loudness(sound) > 0.02
    assert "piper" not in sys.modules, "its licence lets us run it, not import it"


async def test_piper_stays_for_many_sentences_and_comes_back_when_it_was_killed(cabinet: Cabinet) -> None:
    short, long = "Okay.", "I will tell you when the kettle is full, and when the elevator has come."
    observer = FakeObserver()
    async with piper_of(cabinet, observer) as voice:
        first = await voice.synthesize(short, "en")
        process = psutil.Process(voice.resident.pid)
        folder = Path(process.cmdline()[-1])
        for turn in range(10):
            asking = asyncio.create_task(voice.synthesize(long, "en"))
            while not voice.resident.is_at_work and turn % 2 == 0:  # noqa: ASYNC110  cancelled at work, and before
                await asyncio.sleep(0)
            asking.cancel()
            sounds = [Sound.from_wav(await voice.synthesize(text, "en")) for text in (short, long)]
            assert sounds[0].duration_s < 1.2 < 2.0 < sounds[1].duration_s, turn
        assert psutil.Process(voice.resident.pid) == process
        assert os.listdir(folder) == [], "what was read is gone"  # noqa: PTH208

        process.kill()
        async with asyncio.timeout(30):
            while len(observer.named("voice.started")) < 2 or voice.resident.is_being_mended:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert Sound.from_wav(await voice.synthesize(short, "en")).duration_s < 1.2
        assert first
        second = psutil.Process(voice.resident.pid)
        assert second != process
    assert not second.is_running()
    assert not os.path.exists(folder)  # noqa: ASYNC240, PTH110


async def test_piper_without_its_model_is_replaced_by_espeak(tmp_path: Path) -> None:
    observer = FakeObserver()
    speech = make_speech(SpeechSettings(piper_model=tmp_path / "no-such.onnx"), observer)
    assert Sound.from_wav(await speech.synthesize("The kettle is full.", "en")).duration_s > 0.5
    assert {fields["voice"] for fields in observer.named("voice.failed")} == {"piper"}
    await speech.close()


async def test_a_program_that_is_missing_hangs_or_fails_is_named() -> None:
    with pytest.raises(ChannelUnavailable, match=r"espeak-ng: cannot run no-such-program: .*is it installed\?"):
        await EspeakVoice("no-such-program").synthesize("hello", "en")
    with pytest.raises(ChannelUnavailable, match=r"slow was not done after 0\.05 s"):
        await run_program("slow", ["sleep", "60"], b"", limit_s=0.05)
    with pytest.raises(ChannelUnavailable, match=r"bad failed \(3\): the last words"):
        await run_program("bad", ["sh", "-c", "echo first >&2; echo the last words >&2; exit 3"], b"")
    with pytest.raises(ChannelUnavailable, match="gave no sound"):
        await EspeakVoice("true").synthesize("hello", "en")


# --- which voice ---


async def test_the_first_voice_that_can_read_the_text_reads_it_and_the_next_when_it_fails() -> None:
    natural, plain = CountingVoice("natural", "en"), CountingVoice("plain", "en", "zh")
    speech = Speech([natural, plain], FakeObserver())
    assert await speech.synthesize("hello", "en") == b"natural: hello"
    assert await speech.synthesize("你好", "zh") == "plain: 你好".encode()
    assert await speech.synthesize("say 你好", "en") == "plain: say 你好".encode(), "the other reads no Chinese"
    natural.trouble = "model missing"
    assert await speech.synthesize("again", "en") == b"plain: again"
    assert speech.speaks("zh")
    assert not speech.speaks("fr")


async def test_a_message_is_synthesised_once_and_memory_for_it_is_bounded() -> None:
    voice = CountingVoice("v", "en")
    speech = Speech([voice], FakeObserver(), cache_bytes=30)
    for text in ("first text", "first text", "other text", "first text", "third text", "other text"):
        await speech.synthesize(text, "en")
    assert voice.read == ["first text", "other text", "third text", "other text"]


async def test_preparing_never_raises_and_tells_why_it_could_not() -> None:
    observer = FakeObserver()
    await Speech([CountingVoice("v", "en", trouble="no disk")], observer).prepare("hello", "en")
    assert observer.named("voice.not_prepared") == [{"why": "no disk"}]


async def test_without_any_voice_for_a_language_it_is_said_what_to_install() -> None:
    with pytest.raises(ChannelUnavailable, match="there is no voice for 'fr'; install espeak-ng"):
        await Speech([CountingVoice("v", "en")], FakeObserver()).synthesize("bonjour", "fr")


# --- where it is heard ---


async def test_a_spoken_alert_becomes_a_file_that_only_we_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "spoken"
    channel = VoiceChannel(EspeakVoice(), FileSpeaker(folder), clock=SystemClock(), observer=FakeObserver())
    told = alert()
    far_off = delivery(told, "voice", lasting_s=1e9)
    assert (await channel.send(told, far_off)).detail == "kettle-1.wav"
    path = folder / "kettle-1.wav"
    assert Sound.from_wav(path.read_bytes()).duration_s > 0.8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [each.name for each in folder.iterdir()] == ["kettle-1.wav"], "and no draft is left"


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "spoken").write_text("a file where the folder should be")
    with pytest.raises(ChannelUnavailable, match=r"cannot write .*kettle-1\.wav"):
        await FileSpeaker(tmp_path / "spoken").play(b"wav", "kettle-1")


async def test_no_label_leads_out_of_the_folder(tmp_path: Path) -> None:
    await FileSpeaker(tmp_path / "spoken").play(b"wav", "../../escape")
    assert [path.name for path in (tmp_path / "spoken").iterdir()] == [".._.._escape.wav"]


DEVICES = [
    {"index": 0, "name": "Microphone", "max_output_channels": 0},
    {"index": 1, "name": "HDMI 0", "max_output_channels": 8},
    {"index": 2, "name": "USB Audio", "max_output_channels": 2},
    {"index": 3, "name": "USB", "max_output_channels": 2},
]


@pytest.mark.parametrize(
    ("wanted", "index"), [(None, 2), ("1", 1), ("usb audio", 2), ("USB", 3), ("hdmi", 1)],
    ids=["the default", "by number", "by name", "an exact name before a longer one", "by part of a name"],
)  # fmt: skip
def test_a_loudspeaker_is_found_by_number_name_or_part_of_it(wanted: str | None, index: int) -> None:
    assert find_output(DEVICES, 2, wanted)["index"] == index


@pytest.mark.parametrize("wanted", ["0", "9", "Bluetooth"])
def test_a_loudspeaker_that_is_not_there_is_answered_with_those_that_are(wanted: str) -> None:
    with pytest.raises(NoDeviceError, match=f"no loudspeaker {wanted}; there is 1: HDMI 0, 2: USB Audio, 3: USB"):
        find_output(DEVICES, 2, wanted)


async def test_a_spoken_alert_is_heard_in_the_room(room: Room) -> None:
    speaker = PortAudioSpeaker(volume=0.8)
    spoken = Sound.from_wav(await EspeakVoice().synthesize("The kettle is full.", "en"))
    with room.record() as heard:
        assert (await speaker.play(spoken.to_wav(), "kettle-1")).startswith("played 1.")
    loud = np.flatnonzero(np.abs(heard.samples) > 0.02)
    assert loud.size, "nothing was heard"
    heard_s = (loud[-1] - loud[0]) / heard.rate_hz
    assert heard_s == pytest.approx(spoken.without_tail().duration_s, abs=0.12), "to its last sound"


async def test_a_voice_that_is_cut_short_is_silent_at_once(room: Room) -> None:
    long_tone = Sound((np.sin(np.arange(22_050 * 5) / 20) * 20_000).astype("<i2").tobytes(), 22_050)
    with room.record() as heard:
        speaking = asyncio.create_task(PortAudioSpeaker().play(long_tone.to_wav(), "tone"))
        await asyncio.sleep(1.5)  # the tone sounds
        began = time.monotonic()
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
        assert time.monotonic() - began < 0.25  # a few milliseconds on a quiet machine
        await asyncio.sleep(1.0)  # the silence after it is what is measured
    loud = np.flatnonzero(np.abs(heard.samples) > 0.02)
    assert loud.size, "nothing was heard"
    assert len(heard.samples) - loud[-1] > 0.8 * heard.rate_hz


async def test_sound_that_comes_piece_by_piece_is_heard_whole_and_from_the_first_piece_on(room: Room) -> None:
    tone = (np.sin(np.arange(24_000) / 10) * 20_000).astype("<i2").tobytes()
    has_begun = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield tone
        async with asyncio.timeout(10):
            await has_begun.wait()  # it sounds before the rest is there
        yield tone[: len(tone) // 2]

    with room.record() as heard:
        streaming = asyncio.create_task(PortAudioSpeaker(volume=0.8).stream(pieces(), 24_000, "x"))
        await asyncio.sleep(2.5)  # longer than the first piece lasts: it has sounded, and silence follows it
        has_begun.set()
        assert await streaming == "played 1.5 s"
    loud = np.abs(heard.samples) > 0.02
    assert loud.sum() / heard.rate_hz == pytest.approx(1.5, abs=0.12)


async def test_a_stream_that_is_cut_short_is_silent_at_once_and_one_without_sound_is_no_error(room: Room) -> None:
    tone = (np.sin(np.arange(24_000 * 5) / 10) * 20_000).astype("<i2").tobytes()

    async def pieces(*given: bytes) -> AsyncIterator[bytes]:
        for each in given:
            yield each

    with room.record() as heard:
        streaming = asyncio.create_task(PortAudioSpeaker().stream(pieces(tone), 24_000, "x"))
        await asyncio.sleep(1.5)  # the tone sounds
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)
        await asyncio.sleep(1.0)  # the silence after it is what is measured
    loud = np.flatnonzero(np.abs(heard.samples) > 0.02)
    assert loud.size, "nothing was heard"
    assert len(heard.samples) - loud[-1] > 0.8 * heard.rate_hz
    assert await PortAudioSpeaker().stream(pieces(), 24_000, "x") == "played 0.0 s"


async def test_a_stream_into_a_loudspeaker_that_is_missing_is_unavailable(room: Room) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(48_000)

    with pytest.raises(ChannelUnavailable, match="no loudspeaker attic"):
        await PortAudioSpeaker("attic").stream(pieces(), 24_000, "x")


async def test_a_stream_into_a_folder_becomes_one_file(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"\1\0" * 100
        yield b"\2\0" * 100

    name = await FileSpeaker(tmp_path).stream(pieces(), 24_000, "turn-1")
    assert Sound.from_wav((tmp_path / name).read_bytes()) == Sound(b"\1\0" * 100 + b"\2\0" * 100, 24_000)


async def test_the_doctor_sees_the_loudspeaker(room: Room) -> None:
    assert await PortAudioSpeaker().probe() == "default, 44100 Hz"


async def test_a_loudspeaker_that_is_missing_is_unavailable_and_the_others_are_named(room: Room) -> None:
    with pytest.raises(ChannelUnavailable, match=r"no loudspeaker attic; there is .*default"):
        await PortAudioSpeaker("attic").play(Sound(bytes(200), 22_050).to_wav(), "x")


async def test_a_sound_server_that_went_away_is_unavailable_and_comes_back_by_itself(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker, sound = PortAudioSpeaker(), Sound(bytes(2000), 22_050).to_wav()
    with monkeypatch.context() as patch:
        patch.setenv("PULSE_SERVER", "unix:/nowhere")
        with pytest.raises(ChannelUnavailable):
            await speaker.play(sound, "x")
    assert (await speaker.play(sound, "x")).startswith("played")


async def test_what_is_no_sound_is_refused_before_a_device_is_touched() -> None:
    with pytest.raises(ChannelUnavailable, match="no WAV file"):
        await PortAudioSpeaker().play(b"nonsense", "x")


async def test_two_voices_in_one_room_are_never_heard_at_once(room: Room) -> None:
    channel = VoiceChannel(EspeakVoice(), PortAudioSpeaker(), clock=SystemClock(), observer=(told := FakeObserver()))
    first, urgent = alert("kettle"), alert("smoke", text="Smoke alarm!", priority=Priority.URGENT)
    speaking = asyncio.create_task(channel.send(first, delivery(first, "voice", lasting_s=1e9)))
    async with asyncio.timeout(10):
        while not told.named("voice.speaking"):  # noqa: ASYNC110  an observer rings no bell
            await asyncio.sleep(0.01)
    await asyncio.gather(channel.send(urgent, delivery(urgent, "voice", lasting_s=1e9)), speaking)
    said = [(event, fields["alert_id"]) for event, fields in told.events if event.startswith("voice.")]
    assert said == [
        ("voice.speaking", "kettle-1"),
        ("voice.cut", "kettle-1"),
        ("voice.speaking", "smoke-1"),
        ("voice.silent", "smoke-1"),
        ("voice.speaking", "kettle-1"),
        ("voice.silent", "kettle-1"),
    ]
