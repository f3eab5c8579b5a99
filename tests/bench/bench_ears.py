"""How well and how fast the ears hear.

`make bench` measures speed, and synthetic beeps and alarms. The numbers in sounds.toml come from recordings:

    python -m tests.bench.bench_ears FOLDER [SEED]

FOLDER holds one folder of recordings (anything PyAV opens) for each kind of sound. A folder that is named like a group
of sounds.toml, or `microwave` for rows of beeps, holds its events; every other folder holds sounds that must not alert.
Recall: each event alone in a room, told within 3 s of its beginning, 8 s where rows of beeps count. False alerts: all
recordings one after another at levels from -42 to -14 dBFS over a room's noise, a second or two apart, which no home is
as bad as. Both go through the real gate, second by second.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from omni_watch.cabinet import Cabinet
from omni_watch.config.settings import read_settings
from omni_watch.domain.units import Unit
from omni_watch.duplex.embedded.ears import Ears
from omni_watch.duplex.embedded.sounding import BeepWatcher, SoundWatcher
from omni_watch.duplex.embedded.watcher import Heard, Watcher
from omni_watch.watch.deciding import Gate
from tests.bench.report import Report
from tests.fakes import synthetic_sounds as sounds

Floats = NDArray[np.float32]

IN_TIME_S: Final = 3.0
IN_TIME_BEEPS_S: Final = 8.0  # three slow beeps take six
LEAD_S: Final = 7.0
BEEPING: Final = ("alarm_clock", "timer", "beeps")  # whose rules go by rows of beeps
MADE: Final = {"alarm_clock": "alarm_clock", "timer": "timer", "beeps": "microwave"}  # kind -> synthetic sound
ROOMS: Final = {  # name -> level of the event, of the room's noise, of speech beside it, all dBFS
    "near": (-20.0, -60.0, None),
    "beside speech": (-20.0, -60.0, -26.0),
    "across the room": (-34.0, -62.0, None),
    "far": (-46.0, -64.0, None),
    "in noise": (-26.0, -36.0, None),
}
ALIKE: Final = {  # folders whose sounds a person would call the same, or excuse: counted neither way
    "alarm_clock": {"smoke_alarm", "timer", "microwave", "phone", "ringtone", "dialtone", "beeping"},
    "smoke_alarm": {"alarm_clock", "timer", "microwave", "beeping"},
    "timer": {"alarm_clock", "smoke_alarm", "microwave", "phone", "ding", "dialtone", "beeping", "bell"},
    "microwave": {"alarm_clock", "smoke_alarm", "timer", "beeping"},
    "beeps": {"alarm_clock", "smoke_alarm", "timer", "microwave", "beeping", "dialtone", "phone"},
    "doorbell": {"ding", "bell"},
    "ding": {"doorbell", "bell"},
    "phone": {"ringtone", "dialtone", "alarm_clock"},
    "water": {"rain", "waves", "splashing"},
    "rain": {"water", "waves", "splashing"},
    "boiling": {"water", "rain", "waves", "splashing"},
    "dog": {"wolf"},
    "siren": {"smoke_alarm"},
    "knock": {"hammer"},
}


@dataclass(frozen=True, slots=True)
class Recording:
    kind: str
    name: str
    sound: Floats


def recordings(folder: Path) -> list[Recording]:
    """Everything below `folder` that has sound, by kind; at most a minute of each."""
    found = []
    for path in sorted(path for path in folder.glob("*/*") if path.is_file()):
        sound = decoded(path)[: 60 * sounds.RATE]
        if len(sound) >= 0.05 * sounds.RATE and np.abs(sound).max() > 1e-4:
            found.append(Recording(path.parent.name, path.name, sound))
    return found


def decoded(path: Path) -> Floats:
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", sounds.RATE)
        frames = [*container.decode(audio=0), None]
        return np.concatenate([out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)])


def heard_in(ears: Ears, sound: Floats) -> list[Heard]:
    state, seconds = ears.start(), []
    for second in range(len(sound) // sounds.RATE):
        heard, state = ears.hear(sound[second * sounds.RATE : (second + 1) * sounds.RATE], float(second), state)
        seconds.append(heard)
    return seconds


def told(watchers: Sequence[Watcher], seconds: Sequence[Heard]) -> list[int]:
    """Seconds at whose end one of a task's watchers has it that it has just happened."""
    gates, found = [Gate.fresh(watcher.gate) for watcher in watchers], list[int]()
    for index, heard in enumerate(seconds):
        unit = Unit(feed="bench", index=index, start_s=float(index), audio=np.zeros(sounds.RATE, np.float32))
        for number, watcher in enumerate(watchers):
            gates[number], has = gates[number].after(watcher.step(unit, heard).score, unit.start_s)
            if has and not (found and index - found[-1] < watcher.gate.rearm_s):
                found.append(index)
    return found


def watchers_of(kind: str) -> list[Watcher]:
    if kind == "beeps":
        return [BeepWatcher(3)]
    return [SoundWatcher([kind]), *([BeepWatcher(3)] if kind in BEEPING else [])]


def in_room(event: Recording, room: str, speech: Sequence[Recording], rng: np.random.Generator) -> tuple[Floats, float]:
    """The event in that room, and when it begins."""
    level, noise, beside = ROOMS[room]
    at_s = LEAD_S + rng.uniform(0, 1)
    length_s = float(np.ceil(at_s + len(event.sound) / sounds.RATE + IN_TIME_S + 1))
    scene = sounds.room_noise(length_s, 10 ** (noise / 20), rng)
    if beside is not None and speech:
        spoken = np.concatenate([sounds.at_level(speech[i].sound, beside) for i in rng.integers(len(speech), size=12)])
        scene = sounds.mixed(scene, spoken, 0.0)
    begins = np.flatnonzero(np.abs(event.sound) > 0.1 * np.abs(event.sound).max())[0] / sounds.RATE
    return sounds.mixed(scene, sounds.at_level(event.sound, level), at_s), at_s + begins


def one_after_another(all_: Sequence[Recording], rng: np.random.Generator) -> tuple[Floats, list[str]]:
    """Every recording over a room's noise, and for each second the kind and name of what sounds in it."""
    pieces, labels, at = [], list[tuple[int, int, str]](), 0
    for index in rng.permutation(len(all_)):
        sound = sounds.at_level(all_[index].sound, rng.uniform(-42, -14))
        labels.append((at, at + len(sound), f"{all_[index].kind}/{all_[index].name}"))
        pieces += [sound, sounds.silence(rng.uniform(0.8, 3.0))]
        at += len(sound) + len(pieces[-1])
    scene = np.concatenate(pieces)
    noise = sounds.room_noise(60, 10 ** (-60 / 20), rng)
    scene = np.clip(scene + np.resize(noise, len(scene)), -1, 1)
    by_second = [""] * (len(scene) // sounds.RATE + 4)
    for start, end, label in labels:
        first, last = start // sounds.RATE, end // sounds.RATE + 3  # what is told up to 2 s later is told because of it
        by_second[first:last] = [label] * len(by_second[first:last])
    return scene, by_second


def evaluate(ears: Ears, folder: Path, seed: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    everything = recordings(folder)
    speech = [r for r in everything if r.kind == "speech"]
    scene, labels = one_after_another(everything, rng)
    seconds = heard_in(ears, scene)
    yield f"{len(everything)} recordings, {len(seconds) / 3600:.2f} h one after another"
    for kind in (*ears.groups, "beeps"):
        yield false_alerts(kind, seconds, labels)
        events = [r for r in everything if r.kind == MADE.get(kind, kind)][:20]
        if events:
            yield (
                "    recall "
                + ", ".join(f"{room} {recall(ears, kind, events, room, speech, rng):.2f}" for room in ROOMS)
                + f" of {len(events)}"
            )


def false_alerts(kind: str, seconds: Sequence[Heard], labels: Sequence[str]) -> str:
    excused = {kind} | ALIKE.get(kind, set())
    counted = [label.split("/")[0] not in excused for label in labels[: len(seconds)]]
    false = [labels[index].split("/")[0] or "silence" for index in told(watchers_of(kind), seconds) if counted[index]]
    causes = ", ".join(f"{cause} {count}" for cause, count in Counter(false).most_common(5))
    return f"{kind:<12} {len(false) / (sum(counted) / 3600):5.2f} false alerts per hour   {causes}"


def recall(
    ears: Ears,
    kind: str,
    events: Sequence[Recording],
    room: str,
    speech: Sequence[Recording],
    rng: np.random.Generator,
) -> float:
    found, in_time_s = 0, IN_TIME_BEEPS_S if kind in BEEPING else IN_TIME_S
    for event in events:
        scene, begins_s = in_room(event, room, speech, rng)
        ends = [index + 1 for index in told(watchers_of(kind), heard_in(ears, scene))]
        # the second in which the time is up is still in time: it is told at its end
        found += any(begins_s <= end <= begins_s + in_time_s + 1 for end in ends)
    return found / len(events)


def loaded_ears() -> Ears:
    cabinet = Cabinet(read_settings().models_dir)
    return Ears(cabinet.path("yamnet"), cabinet.path("yamnet-classes"))


def bench(report: Report) -> None:
    ears, rng = loaded_ears(), np.random.default_rng(1)
    beeping = sounds.mixed(sounds.room_noise(60, 0.01, rng), sounds.row(2050, 0.3, 0.3, 90), 1.0)
    state, spent_ms = ears.start(), []
    for second in range(60):
        began = time.process_time()
        _, state = ears.hear(beeping[second * sounds.RATE : (second + 1) * sounds.RATE], float(second), state)
        spent_ms.append((time.process_time() - began) * 1e3)
    report.measured("ears: CPU for one unit, median", statistics.median(spent_ms), "ms", at_most=12)
    report.measured("ears: CPU for one unit, p95", float(np.percentile(spent_ms, 95)), "ms")
    for kind, maker in MADE.items():
        made = [Recording(kind, str(i), sounds.room(sounds.SYNTHETIC[maker](rng), 0.4, 0.5, rng)) for i in range(10)]
        value = recall(ears, kind, made, "across the room", [], rng)
        report.measured(f"ears: synthetic {kind}, told in its time", value, "", at_least=0.7)


if __name__ == "__main__":
    for line in evaluate(loaded_ears(), Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0):
        print(line, flush=True)
