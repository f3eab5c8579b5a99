"""Is this the same model? Recorded sessions are lived through again, and every number is held against the reference's.

Each session is replayed twice. Once as published: every piece in a forward of its own, each session alone. And once as
the product does it: what can wait is fed together, and all sessions are stepped as one batch. Integers, texts and
decisions have to come out exactly as recorded, tensors within `LIMITS`.

In bfloat16 or float16 a model soon decides differently somewhere, and what follows cannot be compared any more. So
there the recorded decisions are imposed, and how often the model would have decided otherwise is counted, not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.checkpoint import DTYPES, Checkpoint, open_checkpoint
from omni_watch.duplex.minicpmo.decoding import Decoder, DecodingQuirks, most_likely
from omni_watch.duplex.minicpmo.golden import Golden, decoding_config, read_golden
from omni_watch.duplex.minicpmo.pictures import overview_size, picture_sizes
from omni_watch.duplex.minicpmo.reliving import Player
from omni_watch.duplex.minicpmo.report import Place, Report
from omni_watch.duplex.minicpmo.room import device_named
from omni_watch.duplex.minicpmo.tokens import Tokens
from omni_watch.duplex.minicpmo.vision import position_ids, side_waves
from omni_watch.duplex.minicpmo.weights import MiniCpmO, run_together

_POSITIONS: Final = 1 << 20  # more than any recording has
OnProgress = Callable[[int, int], None]  # units done, units in all

# Largest absolute difference allowed in float32. Runs of the reference itself with one and with two threads differ by
# less than a tenth of these. That of mel is for recordings made on another kind of processor: the logarithm of a quiet
# bin shows how a Fourier transform rounds, and MKL's in AVX-512 and in SSE differ by 2.5e-5 in the tests' recordings;
# on processors of one kind, or with MKL_CBWR=COMPATIBLE, 1.2e-7 was found.
LIMITS: Final[Mapping[str, float]] = {
    "pixels": 1e-6,
    "vpm": 2e-5,
    "resampler": 2e-5,
    "mel": 5e-5,
    "apm": 2e-5,
    "audio_embeds": 2e-5,
    "position_rows": 2e-5,
    "logits": 2e-4,
    "hidden": 5e-5,
    "cache": 5e-5,
    "rotated_keys": 5e-4,
    "tts_cond": 2e-5,
    "tts_scores": 5e-5,
    "decode_probs": 5e-5,
}
# In bfloat16 and float16, where values reach 4, logits 25 and probabilities 1: about three times what was measured in
# bfloat16 on the CPU with the random checkpoint of the tests. What is computed in float32 anyway has float32's limits.
HALF_LIMITS: Final[Mapping[str, float]] = {
    **LIMITS,
    "vpm": 0.15,
    "resampler": 0.15,
    "apm": 0.1,
    "audio_embeds": 0.04,
    "logits": 0.8,
    "hidden": 0.15,
    "cache": 0.2,
    "rotated_keys": 0.2,
    "tts_cond": 0.03,
    "tts_scores": 0.2,
}


def replay(
    folder: Path, *, dtype: str = "float32", device: str = "cpu", on_progress: OnProgress | None = None
) -> Report:
    """Live through all recorded sessions of a folder, and ask its recorded parts; compare.

    `dtype` is a name in `checkpoint.DTYPES`. Takes seconds for a tiny model; one thread at a time.

    Raises:
        ModelError: there is no such device, the folder has no sessions, or its checkpoint cannot be loaded.
    """
    place = device_named(device, key="device")
    golden = read_golden(folder)
    checkpoint = _unbounded(open_checkpoint(folder))
    model = checkpoint.load(device=place, dtype=DTYPES[dtype])
    is_exact = dtype == "float32"
    report = Report.empty(
        folder,
        dtype=dtype,
        device=device,
        limits=LIMITS if is_exact else HALF_LIMITS,
        are_integers_judged=is_exact,
    )
    replay_sessions(golden, model, checkpoint.tokens, report, is_imposed=not is_exact, on_progress=on_progress)
    compare_parts(golden, model, checkpoint.tokens, report)
    return report


def _unbounded(checkpoint: Checkpoint) -> Checkpoint:
    """The published code goes on where the trained positions end; so does a replay of it, unlike the product."""
    config, speech = checkpoint.config, checkpoint.config.speech
    if speech is not None:
        speech = replace(speech, max_positions=max(speech.max_positions, _POSITIONS))
    language = replace(config.language, max_positions=max(config.language.max_positions, _POSITIONS))
    return replace(checkpoint, config=replace(config, language=language, speech=speech))


def replay_sessions(
    golden: Golden,
    model: MiniCpmO,
    tokens: Tokens,
    report: Report,
    *,
    is_imposed: bool = False,
    on_progress: OnProgress | None = None,
) -> None:
    """All sessions, both ways; adds to the report."""
    progress = _Progress(2 * golden.unit_count, on_progress)

    def players(*, merges_feeds: bool) -> list[Player]:
        return [
            Player(
                session,
                model,
                tokens,
                report,
                merges_feeds=merges_feeds,
                is_imposed=is_imposed,
                on_unit=progress.advance,
            )
            for session in golden.sessions
        ]

    for player in players(merges_feeds=False):
        play(model, [player])
    play(model, players(merges_feeds=True))


def play(model: MiniCpmO, players: Sequence[Player]) -> None:
    """One session alone, which is overheard, or several as one batch.

    Raises:
        ModelError: a session could not be lived through to its end.
    """
    ears = players[0].tape.overhear(model) if len(players) == 1 else nullcontext()
    with ears:
        outcomes = run_together(model, [player.tape.around(player.play()) for player in players])
    for outcome in outcomes:
        if isinstance(outcome, ModelError):
            raise outcome


class _Progress:
    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._done, self._total = 0, total
        self._on_progress = on_progress

    def advance(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)


# --- parts that can be asked alone ---


def compare_parts(golden: Golden, model: MiniCpmO, tokens: Tokens, report: Report) -> None:
    """Picture sizes, positions and choices of tokens; adds to the report what the folder has recorded of them."""
    place = Place("components")
    with torch.inference_mode():
        for recorded in golden.components.get("resize", ()):
            _compare_sizes(place, recorded, model, report)
        _compare_positions(place, golden, model, report)
        forbidden = golden.components.get("forbidden_token_ids")
        if forbidden is not None:
            found = {tokens.tts_pad, *tokens.bad_ids, tokens.chunk_eos}
            report.discrete(place, "forbidden_token_ids", sorted(forbidden), sorted(found))
        for case in golden.components.get("decode_cases", ()):
            _compare_choice(place, case, golden, tokens, report)


def _compare_sizes(place: Place, recorded: Mapping[str, Any], model: MiniCpmO, report: Report) -> None:
    """One frame's row of the table. Its `overview` counts where there are tiles; elsewhere nothing is fed of it."""
    width, height = recorded["size"]
    config = model.config.vision
    name = f"resize {width}x{height}"
    report.discrete(place, f"{name} single", recorded["single"], list(overview_size(width, height, config)))
    for most, tiles in recorded.get("grids", {}).items():
        tiling = picture_sizes(width, height, int(most), config)
        found = {"grid": _listed(tiling.grid), "refine": _listed(tiling.refined)} if tiling.grid else None
        report.discrete(place, f"{name} in {most}", tiles, found)
        if tiles is not None:
            report.discrete(place, f"{name} overview", recorded["overview"], list(tiling.overview))


def _listed(pair: tuple[int, int] | None) -> list[int] | None:
    return None if pair is None else list(pair)


def _compare_positions(place: Place, golden: Golden, model: MiniCpmO, report: Report) -> None:
    """Of grids of patches: the trained position that each patch takes, and some rows of the resampler's."""
    arrays, config = golden.component_arrays, model.config
    width = config.language.hidden_size
    for name in arrays.names:
        kind, _, size = name.rpartition("_")
        if kind not in ("posids", "resampler_pos") or not arrays[name].numel():
            continue
        rows, columns = map(int, size.split("x"))
        if kind == "posids":
            found = position_ids(rows, columns, config.vision.positions_per_side, torch.device("cpu"))
            report.discrete(place, name, arrays[name].tolist(), found.tolist())
        else:
            step = max(1, rows * columns // 16)  # of which rows were recorded
            report.tensor(place, "position_rows", arrays[name], _resampler_positions(rows, columns, width)[::step])


def _resampler_positions(rows: int, columns: int, width: int) -> Tensor:
    """[rows * columns, width]: the column's waves, then the row's."""
    across, down = (side_waves(side, width // 2, torch.device("cpu"), torch.float32) for side in (columns, rows))
    return torch.cat([across.repeat(rows, 1), down.repeat_interleave(columns, dim=0)], dim=1)


def _compare_choice(place: Place, case: Mapping[str, Any], golden: Golden, tokens: Tokens, report: Report) -> None:
    """One recorded choice of a token: what was drawn from, what comes of it, and what is remembered."""
    name = f"decode case {case['index']}"
    arrays, prefix = golden.component_arrays, f"s{case['index']:02d}_"
    config = decoding_config(case["params"])
    decoder = Decoder(tokens, config, quirks=DecodingQuirks.reference(), draw=most_likely)
    for token in case["history"]:
        decoder.remember(token)
    logits = arrays[f"{prefix}logits"]
    for key, drawn_from in zip(("probs0", "probs1"), decoder.distributions(logits), strict=True):
        if prefix + key in arrays:
            report.tensor(place, "decode_probs", arrays[prefix + key], drawn_from)
    report.discrete(place, f"{name} token", case["token_if_argmax"], decoder.decode(logits))
    report.discrete(place, f"{name} history", case["history_after"], decoder.history)
