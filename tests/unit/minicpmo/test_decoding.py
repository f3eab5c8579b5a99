"""The choice of the next token: the published numbers with the quirks on, the sensible ones with them off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.decoding import (
    HISTORY,
    Decoder,
    DecodingConfig,
    DecodingQuirks,
    SeededDraw,
    most_likely,
    shortlist,
)
from omni_watch.duplex.minicpmo.tokens import Tokens

GOLDEN = Path(__file__).parents[2] / "golden/minicpmo/tiny-a"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "components.json").read_text())["decode_cases"]
TOKENS = Tokens.read(GOLDEN)
VOCABULARY = 506
PLAIN = DecodingConfig(repetition_penalty=1.0, length_penalty=1.0)


@pytest.fixture(scope="module")
def vectors() -> Iterator[Any]:
    with np.load(GOLDEN / "components.npz") as loaded:
        yield loaded


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"case{case['index']:02d}")
def test_with_the_quirks_on_every_published_choice_is_made_again(case: dict[str, Any], vectors: Any) -> None:
    decoder = _decoder(_published_config(case["params"]), history=case["history"], quirks=DecodingQuirks.reference())
    logits = torch.from_numpy(vectors[f"s{case['index']:02d}_logits"])

    drawn_from = decoder.distributions(logits)
    chosen = decoder.decode(logits)

    for name, ours in zip(("probs0", "probs1"), drawn_from, strict=True):
        if (key := f"s{case['index']:02d}_{name}") in vectors:
            torch.testing.assert_close(ours, torch.from_numpy(vectors[key]), rtol=0, atol=2e-7)
    assert chosen == case["token_if_argmax"]
    assert decoder.history == case["history_after"]


def test_the_published_cases_cover_both_draws() -> None:
    assert {case["n_multinomial"] for case in CASES} == {0, 1, 2}


def test_tokens_that_are_never_said_are_not_chosen_however_likely() -> None:
    forbidden = [TOKENS.tts_pad, *TOKENS.bad_ids]

    chosen = _decoder(PLAIN).decode(_logits({**dict.fromkeys(forbidden, 50.0), 7: 1.0}))

    assert chosen == 7


def test_the_end_of_a_chunk_is_taken_at_once_and_not_remembered() -> None:
    decoder = _decoder(PLAIN)

    assert decoder.decode(_logits({TOKENS.chunk_eos: 5.0, 7: 4.0})) == TOKENS.chunk_eos
    assert decoder.history == []


@pytest.mark.parametrize(("before", "after"), [(2.0, 1.0), (-2.0, -4.0)])
def test_repetition_makes_a_token_less_likely_whatever_the_sign_of_its_logit(before: float, after: float) -> None:
    config = DecodingConfig(mode="sampling", temperature=1.0, top_k=0, top_p=0.0, repetition_penalty=2.0)
    decoder = _decoder(config, history=[7, 7, 9])
    logits = _logits({7: before, 8: before}, rest=-3.0)

    probabilities = decoder.distributions(logits).token

    assert float(probabilities[7] / probabilities[8]) == pytest.approx(np.exp(after - before), rel=1e-5)


def test_the_published_repetition_makes_an_unlikely_token_more_likely() -> None:
    config = DecodingConfig(repetition_penalty=2.0)
    logits = _logits({7: -2.0, 8: -1.9}, rest=-9.0)

    assert _decoder(config, history=[7], quirks=DecodingQuirks(repetition_ignores_sign=True)).decode(logits) == 7
    assert _decoder(config, history=[7]).decode(logits) == 8


def test_listening_does_not_wear_out_with_use_unless_the_quirk_is_on() -> None:
    config = DecodingConfig(repetition_penalty=2.0)
    logits = _logits({TOKENS.listen: 3.0, 7: 2.0})
    worn = DecodingQuirks(repetition_hits_control_tokens=True)

    assert _decoder(config, history=[TOKENS.listen]).decode(logits) == TOKENS.listen
    assert _decoder(config, history=[TOKENS.listen], quirks=worn).decode(logits) == 7


def test_what_was_said_before_the_window_is_not_a_repetition() -> None:
    config = DecodingConfig(repetition_penalty=2.0, repetition_window=2)
    logits = _logits({7: 3.0, 8: 2.0})

    assert _decoder(config, history=[7, 1]).decode(logits) == 8
    assert _decoder(config, history=[7, 1, 2]).decode(logits) == 7


@pytest.mark.parametrize(("end", "says_more"), [(2.05, True), (2.3, False), (-0.95, True), (-0.85, False)])
def test_the_end_of_a_turn_must_be_more_likely_by_the_length_penalty(end: float, says_more: bool) -> None:
    other = 2.0 if end > 0 else -1.0
    decoder = _decoder(DecodingConfig(length_penalty=1.1))

    chosen = decoder.decode(_logits({TOKENS.turn_eos: end, 7: other}, rest=-9.0))

    assert (chosen == 7) is says_more


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("logit", [-3.0, 3.0])
def test_the_listen_scale_multiplies_the_odds_of_listening(logit: float, temperature: float) -> None:
    logits = _logits({TOKENS.listen: logit, 7: logit})
    config = DecodingConfig(mode="sampling", temperature=temperature, top_k=0, top_p=0.0, listen_prob_scale=3.0)

    probabilities = _decoder(config).distributions(logits).token

    assert float(probabilities[TOKENS.listen] / probabilities[7]) == pytest.approx(3.0, rel=1e-4)


def test_the_greedy_choice_listens_when_the_scale_outweighs_the_lead() -> None:
    logits = _logits({TOKENS.listen: 1.0, 7: 2.0})  # e times less likely

    assert _decoder(DecodingConfig(listen_prob_scale=3.0)).decode(logits) == TOKENS.listen
    assert _decoder(DecodingConfig(listen_prob_scale=2.0)).decode(logits) == 7


def test_listening_among_the_best_few_is_listened_and_not_remembered() -> None:
    logits = _logits({7: 5.0, 8: 4.0, TOKENS.listen: 3.0})
    third, second = (_decoder(DecodingConfig(listen_top_k=k)) for k in (3, 2))

    assert (third.decode(logits), third.history) == (TOKENS.listen, [])
    assert (second.decode(logits), second.history) == (7, [7])


def test_the_logits_are_left_as_they_were() -> None:
    logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(0))
    before = logits.clone()

    _decoder(DecodingConfig(mode="sampling", listen_prob_scale=2.0), history=[1, 2, 3]).decode(logits)

    torch.testing.assert_close(logits, before, rtol=0, atol=0)


def test_one_seed_says_the_same_twice_and_another_something_else() -> None:
    logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(1))
    config = DecodingConfig(mode="sampling", temperature=2.0, top_k=0, top_p=0.0)

    def said(seed: int) -> list[int]:
        decoder = Decoder(TOKENS, config, draw=SeededDraw(seed))
        return [decoder.decode(logits) for _ in range(20)]

    assert said(3) == said(3)
    assert said(3) != said(4)


def test_a_seeded_draw_falls_as_often_as_the_probabilities_say() -> None:
    probabilities = torch.tensor([0.0, 0.5, 0.3, 0.2])
    draw, counts = SeededDraw(0), torch.zeros(4)

    for _ in range(4000):
        counts[draw(probabilities)] += 1

    assert counts[0] == 0
    torch.testing.assert_close(counts / 4000, probabilities, rtol=0, atol=0.03)


@given(st.integers(0, 60), st.floats(0.0, 1.0), st.integers(0, 2**31))
def test_filtering_keeps_the_likeliest_and_leaves_probabilities(top_k: int, top_p: float, seed: int) -> None:
    scores = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 3

    token_ids, probabilities = shortlist(scores, top_k=top_k, top_p=top_p)
    kept = token_ids[probabilities > 0]

    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-5)
    assert sorted(kept.tolist()) == sorted(scores.topk(len(kept)).indices.tolist())
    assert len(kept) <= (top_k or 50)
    if top_p > 0 and len(kept) > 1:  # the likeliest all but one did not reach it yet
        among = scores.topk(min(top_k, 50) if top_k else 50).values.softmax(-1)
        assert float(among[: len(kept) - 1].sum()) <= top_p + 1e-5


def test_logits_that_tie_with_the_last_candidate_stay_in_the_draw() -> None:
    token_ids, probabilities = shortlist(torch.tensor([1.0, 3.0, 2.0, 2.0, 0.0]), top_k=2, top_p=0.0)

    assert set(token_ids[probabilities > 0].tolist()) == {1, 2, 3}


def test_the_history_never_grows_beyond_its_bound() -> None:
    decoder = _decoder(PLAIN, history=range(400))
    for _ in range(3):
        for token_id in range(400):
            decoder.remember(token_id)

    assert decoder.history == [token_id % 400 for token_id in range(1600)][-HISTORY:]


def test_a_new_dialogue_has_said_nothing_yet() -> None:
    decoder = _decoder(DecodingConfig(repetition_penalty=2.0), history=[7])
    decoder.reset()

    assert decoder.history == []
    assert decoder.decode(_logits({7: 3.0, 8: 2.0})) == 7


@pytest.mark.parametrize("mode", ["greedy", "sampling"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_end_the_step(mode: Any, bad: float) -> None:
    decoder = _decoder(DecodingConfig(mode=mode))

    with pytest.raises(ModelError, match="not finite") as caught:
        decoder.decode(_logits({3: bad}))

    assert caught.value.can_retry
    assert decoder.history == []


def test_a_tokenizer_of_another_model_is_named() -> None:
    with pytest.raises(ModelError, match=r"forbids token 479, .* has 100 rows"):
        _decoder(PLAIN).decode(torch.zeros(100))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("temperature", 0.0), ("top_k", -1), ("top_p", 1.5), ("repetition_window", 0), ("repetition_window", 4097)],
)
def test_settings_that_cannot_be_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        DecodingConfig(**{setting: value})  # type: ignore[arg-type] # the values are of all kinds


def _decoder(config: DecodingConfig, history: Any = (), quirks: DecodingQuirks | None = None) -> Decoder:
    decoder = Decoder(TOKENS, config, quirks=quirks, draw=most_likely)
    for token_id in history:
        decoder.remember(token_id)
    return decoder


def _logits(likely: dict[int, float], rest: float = 0.0) -> Tensor:
    logits = torch.full((VOCABULARY,), rest)
    for token_id, logit in likely.items():
        logits[token_id] = logit
    return logits


def _published_config(params: dict[str, Any]) -> DecodingConfig:
    return DecodingConfig(
        mode=params["mode"],
        temperature=params["temperature"],
        top_k=params["top_k"],
        top_p=params["top_p"],
        repetition_penalty=params["text_repetition_penalty"],
        repetition_window=params["text_repetition_window_size"],
        length_penalty=params["length_penalty"],
        listen_prob_scale=params["listen_prob_scale"],
        listen_top_k=params["listen_top_k"],
    )
