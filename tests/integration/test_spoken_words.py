"""Real models and spoken sentences: the right words come out of speech, and none out of anything else."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni_watch.cabinet import Cabinet
from omni_watch.domain.errors import ModelError
from omni_watch.duplex.embedded.words.listening import Change, FeedListening, Utterance, VoiceBegan, VoiceEnded
from omni_watch.duplex.embedded.words.models import MODELS, WhisperFiles
from omni_watch.duplex.embedded.words.recognizer import HINT_TRUST, Recognizer
from omni_watch.duplex.embedded.words.voice_activity import VoiceActivity, VoiceState
from omni_watch.watch.pinyin import meant, repaired
from tests.fakes import synthetic_sounds as sounds
from tests.fakes.spoken import COMMANDS_ZH, HOT_WORDS, errors, espeak, in_a_room, piper, recorded, wording

Floats = NDArray[np.float32]
RATE: Final = 16_000
BASE, TINY = MODELS


@pytest.fixture(scope="module")
def activity(cabinet: Cabinet) -> VoiceActivity:
    return VoiceActivity(cabinet.path("silero-vad"))


def files_of(cabinet: Cabinet, index: int) -> WhisperFiles:
    files = MODELS[index].files(cabinet.find)
    assert files is not None
    return files


@pytest.fixture(scope="module")
def base(cabinet: Cabinet) -> Recognizer:
    return Recognizer(files_of(cabinet, 0), ("en", "zh"))


@pytest.fixture(scope="module")
def tiny(cabinet: Cabinet) -> Recognizer:
    return Recognizer(files_of(cabinet, 1), ("en", "zh"))


def utterances(activity: VoiceActivity, sound: Floats) -> list[Utterance]:
    """The stretches of voice in a recording."""
    changes = FeedListening(activity).hear(0.0, sound)
    return [change.utterance for change in changes if isinstance(change, VoiceEnded)]


def amid_silence(speech: Floats, *, seed: int = 0) -> Floats:
    """Speech in a room, with a second before and after it."""
    second = np.zeros(RATE, np.float32)
    return in_a_room(np.concatenate([second, speech, second]), np.random.default_rng(seed))


def heard(activity: VoiceActivity, recognizer: Recognizer, speech: Floats) -> str:
    """The whole way: voice, then words."""
    found = utterances(activity, amid_silence(speech))
    assert len(found) == 1
    transcripts = recognizer.recognize(found[0].samples, HOT_WORDS)
    return transcripts[0].text if transcripts else ""


# --- speech ---


@pytest.mark.parametrize(
    "sentence",
    [
        "Tell me when the kettle is full.",
        "Let me know when the elevator arrives.",
        "When the microwave is done, tell me dinner is ready.",
        "Did the washing machine finish?",
        "Is the water still running?",
        "Tell me if the smoke alarm goes off.",
    ],
)
def test_a_natural_voice_is_heard_but_for_a_word_at_most(
    sentence: str, activity: VoiceActivity, base: Recognizer, cabinet: Cabinet
) -> None:
    """The word is for processors that round differently; how many are wrong is measured by bench_words."""
    speech = piper(sentence, cabinet.path("voice-en"))
    assert errors(heard(activity, base, speech), sentence) <= 1


@pytest.mark.parametrize(
    ("sentence", "voice"),
    [
        ("Tell me when the water is boiling.", "en-us"),
        ("Let me know when the elevator arrives.", "en-gb"),
        ("Tell me when the phone rings.", "en-us"),
    ],
)
def test_a_machine_voice_is_too(sentence: str, voice: str, activity: VoiceActivity, base: Recognizer) -> None:
    assert errors(heard(activity, base, espeak(sentence, voice)), sentence) <= 1


@pytest.mark.parametrize("name", COMMANDS_ZH)
def test_a_mandarin_command_is_found_by_its_sound(name: str, activity: VoiceActivity, base: Recognizer) -> None:
    text = repaired(heard(activity, base, recorded(name)), HOT_WORDS["zh"])
    found = meant(text, {key: (command,) for key, command in COMMANDS_ZH.items()})
    assert found is not None, text
    assert found.meaning == name


def test_the_language_is_that_of_each_sentence(base: Recognizer, cabinet: Cabinet) -> None:
    english = piper("Let me know when the elevator arrives.", cabinet.path("voice-en"))
    for _ in range(2):
        assert base.recognize(english, HOT_WORDS)[0].language == "en"
        assert base.recognize(recorded("elevator"), HOT_WORDS)[0].language == "zh"


def test_where_only_english_is_spoken_nothing_is_heard_in_chinese(cabinet: Cabinet) -> None:
    english_only = Recognizer(files_of(cabinet, 0), ("en",))
    assert {each.language for each in english_only.recognize(recorded("elevator"))} <= {"en"}


def test_the_small_english_model_hears_english_and_knows_no_other_language(
    activity: VoiceActivity, tiny: Recognizer, cabinet: Cabinet
) -> None:
    assert tiny.languages == ("en",)
    sentence = "Let me know when the elevator arrives."
    assert errors(heard(activity, tiny, piper(sentence, cabinet.path("voice-en"))), sentence) <= 1


def test_a_hint_turns_what_only_sounds_like_it_into_the_word(base: Recognizer) -> None:
    """One of the sentences that are heard wrong without a hint; how many there are is measured by bench_words."""
    speech = in_a_room(espeak("Keep an eye on the kettle for me."), np.random.default_rng(1))
    assert "kettle" in base.recognize(speech, HOT_WORDS)[0].text


def test_other_wordings_come_after_the_likeliest_and_differ(base: Recognizer) -> None:
    speech = in_a_room(espeak("Pause all tasks until tomorrow morning."), np.random.default_rng(1))
    transcripts = base.recognize(speech, HOT_WORDS)
    assert len(transcripts) > 1
    assert len({wording(each.text) for each in transcripts}) == len(transcripts)
    assert all(0.0 < each.confidence <= 1.0 for each in transcripts)
    assert transcripts[0].confidence >= max(each.confidence for each in transcripts) - HINT_TRUST


def test_recognising_leaves_no_trace_in_what_is_recognised_next(base: Recognizer) -> None:
    one, other = (in_a_room(recorded(name), np.random.default_rng(2)) for name in ("dog", "knock"))
    first = base.recognize(one, HOT_WORDS)
    base.recognize(other, HOT_WORDS)
    assert base.recognize(one, HOT_WORDS) == first


@pytest.mark.parametrize("length_s", [0.05, 29.9, 31.0])
def test_very_short_and_very_long_sound_is_no_error(length_s: float, base: Recognizer) -> None:
    base.recognize(np.random.default_rng(3).normal(0, 0.05, round(length_s * RATE)).astype(np.float32))


# --- voices, wherever the stream is cut ---


def plain(changes: Sequence[Change]) -> list[Any]:
    return [
        (type(each), each.utterance.samples.tobytes(), each.utterance.start_s, each.utterance.end_s)
        if isinstance(each, VoiceEnded)
        else type(each)
        for each in changes
    ]


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 80_000), max_size=20, unique=True).map(sorted))
def test_where_the_stream_is_cut_never_changes_which_voice_is_found(cuts: list[int], activity: VoiceActivity) -> None:
    sound = np.concatenate([amid_silence(recorded("cancel")), amid_silence(recorded("dog"))])
    whole = FeedListening(activity).hear(3.0, sound)

    listening, changes, at = FeedListening(activity), list[Change](), 0
    for piece in np.split(sound, cuts):
        changes += listening.hear(3.0 + at / RATE, piece)
        at += len(piece)

    assert plain(changes) == plain(whole)
    assert sum(isinstance(change, VoiceEnded) for change in whole) == 2


def test_a_voice_is_found_where_it_is(activity: VoiceActivity) -> None:
    speech = recorded("kettle")
    loud = np.flatnonzero(np.abs(speech) > 0.02)
    (found,) = utterances(activity, amid_silence(speech))
    assert found.start_s == pytest.approx(1.0 + loud[0] / RATE, abs=0.15)
    assert found.end_s == pytest.approx(1.0 + loud[-1] / RATE, abs=0.3)


@pytest.mark.parametrize("level", [0.3, 0.1, 0.02, 0.005])
def test_a_voice_is_found_near_and_far(level: float, activity: VoiceActivity) -> None:
    speech = recorded("knock")
    sound = in_a_room(
        np.concatenate([np.zeros(RATE, np.float32), speech]), np.random.default_rng(1), level=level, noise=0.0005
    )
    assert any(isinstance(change, VoiceBegan) for change in FeedListening(activity).hear(0.0, sound))


# --- what is no speech ---


def hiss(rng: np.random.Generator) -> Floats:
    return rng.normal(0, 1, 6 * RATE).astype(np.float32)


def hum(_rng: np.random.Generator) -> Floats:
    t = sounds.seconds(6.0)
    return sounds.peak_one(sum((np.sin(2 * np.pi * 50 * k * t) / k for k in (1, 3, 5)), np.zeros(len(t))))


def chord(_rng: np.random.Generator) -> Floats:
    t = sounds.seconds(6.0)
    tremolo = 1 + 0.3 * np.sin(2 * np.pi * 5 * t)
    return sounds.peak_one(sum((np.sin(2 * np.pi * hz * t) * tremolo for hz in (220, 277, 330, 440)), np.zeros(len(t))))


def siren(_rng: np.random.Generator) -> Floats:
    hz = 900 + 500 * np.sin(np.pi * sounds.seconds(6.0))
    return sounds.peak_one(np.sin(2 * np.pi * np.cumsum(hz) / RATE))


def clicks(rng: np.random.Generator) -> Floats:
    return (rng.random(6 * RATE) < 0.0005).astype(np.float32)


NO_SPEECH: Final[dict[str, Callable[[np.random.Generator], Floats]]] = {
    **sounds.SYNTHETIC,
    "hiss": hiss,
    "hum": hum,
    "chord": chord,
    "siren": siren,
    "clicks": clicks,
    "silence": lambda _rng: sounds.silence(6.0),
}


@pytest.mark.parametrize("kind", NO_SPEECH)
@pytest.mark.parametrize("dbfs", [-20.0, -34.0])
def test_household_sounds_say_nothing(kind: str, dbfs: float, activity: VoiceActivity, base: Recognizer) -> None:
    rng = np.random.default_rng(7)
    sound = NO_SPEECH[kind](rng)
    around = sounds.room_noise(len(sound) / RATE + 3.0, 0.002, rng)
    mixed = sounds.mixed(around, sounds.at_level(sound, dbfs) if sound.any() else sound, 1.0)
    said = [base.recognize(each.samples, HOT_WORDS) for each in utterances(activity, mixed)]
    assert not any(said)


# --- files ---


def test_nothing_is_asked_of_a_network(cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a connection was tried")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert Recognizer(files_of(cabinet, 1), ("en",)).recognize(in_a_room(espeak("Be quiet."), np.random.default_rng(0)))


def test_a_missing_part_of_a_model_is_named(cabinet: Cabinet, tmp_path: Path) -> None:
    files = files_of(cabinet, 1)
    lacking = WhisperFiles(
        weights=files.weights, config=files.config, tokenizer=tmp_path / "none.json", vocabulary=files.vocabulary
    )
    with pytest.raises(ModelError, match=r"none\.json missing; run `omni-watch models pull`"):
        Recognizer(lacking, ("en",))


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_what_is_no_voice_activity_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"vad\.onnx.*run `omni-watch models pull`"):
        VoiceActivity(path)
    with pytest.raises(ModelError, match="none"):
        VoiceActivity(tmp_path / "none")


def test_another_graph_is_refused(cabinet: Cabinet) -> None:
    with pytest.raises(ModelError, match=r"has \['patches'"):
        VoiceActivity(cabinet.path("yamnet"))


def test_less_than_a_window_gives_no_judgement_yet(activity: VoiceActivity) -> None:
    judged, state = activity.step(np.zeros(511, np.float32), VoiceState.start())
    assert judged == []
    judged, state = activity.step(np.zeros(1, np.float32), state)
    assert len(judged) == 1
    assert len(state.rest) == 0
