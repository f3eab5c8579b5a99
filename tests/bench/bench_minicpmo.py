"""What a second costs MiniCPM-o: a fiftieth of the model on two cores; the published sizes when a card is there.

Weights are random: they cost what real ones cost. The limits are shares of what the public reference code took for the
same sizes on a machine of the kind that continuous integration has (two cores, float32, two threads, torch 2.13.0; see
BENCHMARKS.md); on another machine they say little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from omni_watch.duplex.minicpmo.checkpoint import open_checkpoint
from omni_watch.duplex.minicpmo.dialogue import Dialogue, DialogueConfig
from omni_watch.duplex.minicpmo.making import bench_config, official_config, random_model, write_tokenizer
from omni_watch.duplex.minicpmo.mel import MelFrontEnd
from omni_watch.duplex.minicpmo.pictures import pictures_of
from omni_watch.duplex.minicpmo.room import Quantization
from omni_watch.duplex.minicpmo.senses import Senses
from omni_watch.duplex.minicpmo.tokens import Tokens
from omni_watch.duplex.minicpmo.weights import MiniCpmO, run_together
from omni_watch.duplex.minicpmo.windows import Basic, Off
from omni_watch.duplex.minicpmo.work import Work
from tests.bench.report import Report

TINY = Path(__file__).parents[1] / "golden" / "minicpmo" / "tiny-a"
PROMPT = ("<|im_start|>system\nStreaming Omni Conversation.", "<|im_end|>")
RATE_HZ = 16_000
WARM_UP = 6
UNITS = 40
LONG = 10_000

# milliseconds that the reference's prefill and finalize took together, of BENCHMARKS.md's table
REFERENCE_SEEN_MS = 820 + 66
REFERENCE_HEARD_MS = 112 + 53
SHARE = 0.55
FOUR_FEEDS = 2.2


def bench(report: Report) -> None:
    """The small model on the processor; the whole one on a card, in two precisions."""
    torch.set_num_threads(2)
    model, tokens = random_model(bench_config()), _tokens(bench_config()["vocab_size"])
    report.note(f"{bench_config.__doc__} float32, {torch.get_num_threads()} threads, torch {torch.__version__}")
    _on_the_processor(report, model, tokens)
    _for_long(report)
    if not torch.cuda.is_available():
        report.note("no graphics card here: the published sizes are not measured")
        return
    for quantization in (None, "int8", "int4"):
        _on_a_card(report, quantization)


def _on_the_processor(report: Report, model: MiniCpmO, tokens: Tokens) -> None:
    seen, heard = Household(model, tokens, 1), Household(model, tokens, 1, looks=False)
    seen_ms, heard_ms = _median_ms(seen.seconds(), UNITS), _median_ms(heard.seconds(), UNITS)
    report.measured("listening unit, 640x480 frame and sound", seen_ms, "ms", at_most=SHARE * REFERENCE_SEEN_MS)
    report.measured("listening unit, sound only", heard_ms, "ms", at_most=SHARE * REFERENCE_HEARD_MS)

    def times_one(what: str, feeds: int, at_most: float | None = None, **kind: Any) -> None:
        one, many = Household(model, tokens, 1, **kind), Household(model, tokens, feeds, **kind)
        report.measured(what, _ratio(many.seconds(), one.seconds(), UNITS), "x one", at_most=at_most)

    times_one("four feeds together, sound only", 4, FOUR_FEEDS, looks=False)
    times_one("four feeds together, each with a new frame", 4)
    times_one("four feeds together, a still picture (every 5 s)", 4, looks_every=5)
    still, moving = Household(model, tokens, 1, looks_every=5), Household(model, tokens, 1)
    report.measured(
        "a still picture against a new one each second", _ratio(still.seconds(), moving.seconds(), UNITS), "x"
    )
    report.measured("speaking unit of 18 words and a second of speech codes", _speaking_ms(model, tokens), "ms")


def _for_long(report: Report) -> None:
    """Sound and pictures for hours: the last thousand units may cost no more than the first."""
    checkpoint = open_checkpoint(TINY)
    model = checkpoint.load(dtype=torch.float32)
    house = Household(model, checkpoint.tokens, 1, looks_every=5, window=Basic(high=1000, low=800))
    process, times = psutil.Process(), house.seconds()
    early = [_ms(times) for _ in range(LONG // 10)]
    rss = process.memory_info().rss
    for _ in islice(times, LONG * 8 // 10):
        pass
    late = [_ms(times) for _ in range(LONG // 10)]
    report.note(f"{LONG} units of the tiny checkpoint, window of 800 to 1000 positions:")
    report.measured("last tenth against the first, median", float(np.median(late) / np.median(early)), "x", at_most=1.2)
    report.measured("memory gained after the first tenth", (process.memory_info().rss - rss) / 2**20, "MB", at_most=20)


def _on_a_card(report: Report, quantization: Quantization | None) -> None:
    """The published sizes with random weights in bfloat16: what a second costs for 1, 2, 4 and 8 feeds."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = random_model(official_config(), device="cuda", dtype=torch.bfloat16, quantization=quantization)
    tokens = _tokens(official_config()["vocab_size"])
    kind = quantization or "bfloat16"
    report.note(f"{torch.cuda.get_device_name()}, published sizes, {kind}")
    for feeds in (1, 2, 4, 8):
        for looks in (True, False):
            house = Household(model, tokens, feeds, looks=looks)
            what = "frame and sound" if looks else "sound only"
            report.measured(f"{kind}: {feeds} feeds, {what}", _median_ms(house.seconds(), UNITS), "ms")
    report.measured(f"{kind}: speaking unit of 18 words with speech codes", _speaking_ms(model, tokens), "ms")
    report.measured(f"{kind}: peak memory", torch.cuda.max_memory_allocated() / 2**30, "GiB")


@dataclass
class Household:
    """Feeds that listen; each second of all of them is one step of the shared model."""

    model: MiniCpmO
    tokens: Tokens
    count: int
    looks: bool = True
    looks_every: int = 1
    window: Off | Basic = field(default_factory=Off)

    def seconds(self) -> Iterator[None]:
        """Live one more second with each `next`."""
        front = MelFrontEnd(self.model.config.audio)
        feeds = [
            (
                Senses(front, self.model.apm),
                Dialogue(self.tokens, self.model.llm, DialogueConfig(window=self.window)),
            )
            for _ in range(self.count)
        ]
        _all(run_together(self.model, [dialogue.prepare(*PROMPT) for _, dialogue in feeds]))
        chance = np.random.default_rng(3)
        frames = [chance.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(4)]
        sounds = [(0.1 * chance.standard_normal(RATE_HZ)).astype(np.float32) for _ in range(8)]
        second = 0
        while True:
            looks = self.looks and second % self.looks_every == 0
            works = [
                _listen(
                    self.model, senses, dialogue, sounds[(second + n) % 8], frames[(second + n) % 4] if looks else None
                )
                for n, (senses, dialogue) in enumerate(feeds)
            ]
            _all(run_together(self.model, works))
            second += 1
            yield


def _listen(
    model: MiniCpmO, senses: Senses, dialogue: Dialogue, sound: NDArray[np.float32], frame: NDArray[np.uint8] | None
) -> Work[float]:
    """One listening second; the margin is read, as the product does."""
    frames = [] if frame is None else [pictures_of(frame, model.config.vision)]
    perceived = yield from senses.perceive(torch.from_numpy(sound), frames)
    moment = yield from dialogue.hear(perceived)
    speak, listen = moment.of(dialogue.tokens.speak, dialogue.tokens.listen)
    yield from dialogue.listen()
    yield from dialogue.finalize()
    return speak - listen


def _speaking_ms(model: MiniCpmO, tokens: Tokens) -> float:
    """The median of a second in which the model says as much as a second holds, and its speech codes."""
    if model.tts is None:
        raise ValueError("the model was made without its speech decoder")
    senses = Senses(MelFrontEnd(model.config.audio), model.apm)
    dialogue = Dialogue(tokens, model.llm, DialogueConfig(max_chars=10_000), speech=model.tts.start())
    _all(run_together(model, [dialogue.prepare(*PROMPT)]))
    sound = np.zeros(RATE_HZ, np.float32)

    def second() -> Work[None]:
        perceived = yield from senses.perceive(torch.from_numpy(sound))
        yield from dialogue.hear(perceived)
        yield from dialogue.speak()
        yield from dialogue.finalize()

    def seconds() -> Iterator[None]:
        while True:
            _all(run_together(model, [second()]))
            yield

    return _median_ms(seconds(), 12)


def _tokens(size: int) -> Tokens:
    with TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), size)
        return Tokens.read(Path(folder))


def _all(results: Sequence[object]) -> None:
    for result in results:
        if isinstance(result, Exception):
            raise result


def _ms(seconds: Iterator[None]) -> float:
    began = time.perf_counter()
    next(seconds)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - began) * 1000


def _median_ms(seconds: Iterator[None], count: int) -> float:
    return float(np.median([_ms(seconds) for _ in _warmed(seconds, count)]))


def _ratio(these: Iterator[None], those: Iterator[None], count: int) -> float:
    """How much longer `these` take, lived through in turns with `those`, so that both meet the same other work."""
    pairs = [(_ms(these), _ms(those)) for _ in zip(_warmed(these, count), _warmed(those, count), strict=True)]
    cycles = np.array(pairs).reshape(-1, 5, 2).sum(axis=1)  # five seconds: one with a picture where pictures are still
    return float(np.median(cycles[:, 0] / cycles[:, 1]))


def _warmed(seconds: Iterator[None], count: int) -> range:
    for _ in range(WARM_UP):
        next(seconds)
    return range(count)
