"""Sentences that people say to a house, spoken by programs: speech for tests that must not depend on recordings."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RATE: Final = 16_000
SENTENCES: Final = (
    "Tell me when the kettle is full.",
    "Let me know when the elevator arrives.",
    "Tell me every time the dog barks.",
    "Remind me to take out the pizza when the oven timer rings.",
    "When the microwave is done, tell me dinner is ready.",
    "Watch the front door and tell me when somebody knocks.",
    "What are you watching for?",
    "Stop watching the kettle.",
    "Cancel that.",
    "Be quiet.",
    "Yes, please.",
    "No, thank you.",
    "Snooze the alarm for ten minutes.",
    "Did the washing machine finish?",
    "Wake me up when the baby cries.",
    "Tell me if the smoke alarm goes off.",
    "Pause all tasks until tomorrow morning.",
    "How full is the kettle now?",
    "Is the water still running?",
    "What did you hear last?",
    "Let me know when the water is boiling.",
    "Tell me when the phone rings.",
    "Say that again.",
    "I heard you, thanks.",
    "Forget about the washing machine.",
    "When did the doorbell ring?",
    "Tell me as soon as the glass breaks.",
    "Has the elevator come yet?",
    "Keep an eye on the kettle for me.",
    "Call me when the laundry is finished.",
    "Which tasks are active?",
    "Listen for the doorbell for the next two hours.",
)
COMMANDS_ZH: Final = {  # recordings in tests/golden/words, by name
    "kettle": "水壶满了告诉我",
    "elevator": "电梯到了提醒我",
    "dog": "狗叫了告诉我",
    "microwave": "微波炉好了叫我",
    "cancel": "取消水壶的任务",
    "watching": "你在看什么",
    "baby": "宝宝哭了马上告诉我",
    "knock": "有人敲门的时候提醒我",
}
HOT_WORDS: Final = {
    "en": (
        "kettle",
        "water",
        "elevator",
        "microwave",
        "oven timer",
        "washing machine",
        "doorbell",
        "smoke alarm",
        "dog",
    ),
    "zh": ("水壶", "电梯", "微波炉", "狗", "宝宝", "门铃", "烟雾报警器", "洗衣机", "定时器", "电话", "敲门"),
}
RECORDED: Final = Path(__file__).parents[1] / "golden" / "words"


def wording(text: str) -> str:
    """The words alone, small, with numbers written out as recognisers do not."""
    plain = text.casefold().replace("10 ", "ten ").replace("2 ", "two ").replace("what's", "what is")
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", plain))


def errors(heard: str, said: str) -> int:
    """Words that are missing, too many or others."""
    above = list(range(len(wording(said).split()) + 1))
    for row, left in enumerate(wording(heard).split(), 1):
        line = [row]
        for column, right in enumerate(wording(said).split(), 1):
            line.append(min(above[column] + 1, line[-1] + 1, above[column - 1] + (left != right)))
        above = line
    return above[-1]


def recorded(name: str) -> Floats:
    """A Mandarin command, spoken by Kokoro."""
    return read_sound(RECORDED / f"{name}.ogg")


def espeak(text: str, voice: str = "en-us", *options: str) -> Floats:
    """16 kHz, -1..1."""
    command = ["espeak-ng", "-b", "1", "-v", voice, *options, "--stdin", "--stdout"]
    return _sound(subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout)


def piper(text: str, model: Path, program: str | None = None, *, varies: bool = False) -> Floats:
    """The voice of the cabinet; every time the same, unless it `varies` as it does by itself."""
    found = program or shutil.which("piper", path=str(Path(sys.executable).parent)) or shutil.which("piper")
    assert found is not None, "piper-tts is not installed"
    evenly = [] if varies else ["--noise-scale", "0", "--noise-w-scale", "0"]
    command = [found, "-m", str(model), "-f", "-", *evenly]
    return _sound(subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout)


def read_sound(path: Path) -> Floats:
    """Any recording that PyAV opens, mono at 16 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(str(path)) as container:
        frames = [each for frame in container.decode(audio=0) for each in resampler.resample(frame)]
    pieces = [frame.to_ndarray()[0] for frame in (*frames, *resampler.resample(None))]
    return np.concatenate(pieces).astype(np.float32)


def _sound(wav: bytes) -> Floats:
    with wave.open(io.BytesIO(wav)) as file:
        rate, pcm = file.getframerate(), file.readframes(file.getnframes())
    return resampled(np.frombuffer(pcm, "<i2").astype(np.float32) / 32768.0, rate)


def resampled(samples: Floats, rate: int) -> Floats:
    """To 16 kHz."""
    if rate == RATE:
        return samples
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    pieces = [each.to_ndarray()[0] for each in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(pieces).astype(np.float32)


def in_a_room(speech: Floats, rng: np.random.Generator, *, level: float = 0.1, noise: float = 0.002) -> Floats:
    """At an even level, over a room's noise."""
    loudness = float(np.sqrt(np.mean(speech**2))) or 1.0
    return (speech * (level / loudness) + rng.normal(0, noise, len(speech))).clip(-1, 1).astype(np.float32)
