"""The speech decoder: the published codes, turns that end and are cut, and feeds that speak in step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import ModelConfig, SpeechConfig, read_config
from omni_watch.duplex.minicpmo.decoding import SeededDraw, most_likely
from omni_watch.duplex.minicpmo.speech import (
    MAX_NEW_CODES,
    Said,
    SpeechDecoder,
    SpeechMemory,
    discouraged,
)
from omni_watch.duplex.minicpmo.work import Say

GOLDEN = Path(__file__).parents[2] / "golden/minicpmo/tiny-a"
CONFIG: ModelConfig = read_config(json.loads((GOLDEN / "config.json").read_text()))
assert CONFIG.speech is not None
SPEECH: SpeechConfig = CONFIG.speech
WIDTH = CONFIG.language.hidden_size
END = SPEECH.num_audio_tokens - 1
UNUSED = ("tts.projector_spk.", "tts.model.embed_tokens.")
HEAD = "head_code.0.parametrizations.weight."


@pytest.fixture(scope="module", autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def decoder() -> SpeechDecoder:
    return _decoder(SPEECH)


class Published:
    """One published session: its speaking units in order."""

    def __init__(self, name: str) -> None:
        expected = json.loads((GOLDEN / f"expected_{name}.json").read_text())
        self.units = [(f"u{index:03d}", unit) for index, unit in enumerate(expected["units"]) if unit.get("tts")]
        self.arrays: Any = np.load(GOLDEN / f"expected_{name}.npz")

    def array(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def hidden(self, key: str, unit: dict[str, Any]) -> list[Tensor] | None:
        """The states of what was said: the last ones of the unit. Not every unit's are shipped."""
        name, count = f"{key}_hidden", len(unit["unit_token_ids"])
        return list(self.array(name)[-count:]) if name in self.arrays.files else None


@pytest.mark.parametrize("keeps_scores", [True, False], ids=["with scores", "without scores"])
@pytest.mark.parametrize("session", ["main_off", "basic_window", "context_window"])
def test_every_published_unit_is_spoken_with_the_published_codes(session: str, keeps_scores: bool) -> None:
    decoder, published = _decoder(SPEECH), Published(session)
    memory = decoder.start(draw=most_likely, keeps_scores=keeps_scores)
    assert len(published.units) >= 7

    for key, unit in published.units:
        expected, condition = unit["tts"], published.array(f"{key}_tts_cond")
        said = _say_condition(decoder, condition, unit["end_of_turn"], memory)

        assert said.codes == expected["tokens"]
        assert (said.start, said.min_new, said.length) == (expected["start"], expected["min_new"], expected["kv_len"])
        assert memory.start == expected["next_start"]
        assert not said.has_restarted
        if keeps_scores:
            assert said.scores is not None
            torch.testing.assert_close(said.scores, published.array(f"{key}_tts_scores"), rtol=0, atol=5e-5)
        else:
            assert said.scores is None


def test_what_is_said_and_meant_makes_the_published_condition(decoder: SpeechDecoder) -> None:
    compared = 0
    for session in ("main_off", "basic_window", "context_window"):
        published = Published(session)
        for key, unit in published.units:
            if (hidden := published.hidden(key, unit)) is not None:
                condition = decoder.condition(unit["unit_token_ids"], hidden)
                torch.testing.assert_close(condition, published.array(f"{key}_tts_cond"), rtol=0, atol=5e-6)
                compared += 1
    assert compared >= 2


def test_a_unit_that_said_nothing_is_conditioned_on_the_beginning_of_sound_alone(decoder: SpeechDecoder) -> None:
    memory = decoder.start(draw=most_likely)

    said = decoder.say([], [], False, memory)

    torch.testing.assert_close(said.condition, decoder.emb_text.weight[SPEECH.audio_bos_token_id][None])
    assert memory.start == 1 + len(said.codes)


def test_feeds_that_speak_together_say_what_they_say_alone(decoder: SpeechDecoder) -> None:
    rounds = [[_words(4, seed=1), _words(9, seed=2), _words(0, seed=3)], [_words(7, seed=i) for i in (4, 5, 6)]]
    alone = [decoder.start(draw=most_likely, keeps_scores=True) for _ in range(3)]
    together = [decoder.start(draw=most_likely, keeps_scores=feed == 1) for feed in range(3)]

    for words in rounds:
        answers = decoder.say_together([_request(w, m) for w, m in zip(words, together, strict=True)])
        for (ids, hidden), memory, answer in zip(words, alone, answers, strict=True):
            expected = decoder.say(ids, hidden, False, memory)
            assert isinstance(answer, Said)
            assert answer.codes == expected.codes
            assert answer.length == expected.length
    assert [memory.start for memory in together] == [memory.start for memory in alone]


def test_one_feed_that_ends_early_does_not_end_the_others(decoder: SpeechDecoder) -> None:
    brief = decoder.start(draw=_script([5, 6, 7, END]))
    full = decoder.start(draw=_script([8] * MAX_NEW_CODES))

    one, other = decoder.say_together([_request(_words(3), brief), _request(_words(2), full)])

    assert isinstance(one, Said)
    assert isinstance(other, Said)
    assert one.codes == [5, 6, 7]
    assert other.codes == [8] * 25
    assert (brief.start, full.start) == (4 + 3, 3 + 25)


def test_an_end_at_once_says_nothing(decoder: SpeechDecoder) -> None:
    memory = decoder.start(draw=_script([END]))

    assert decoder.say(*_words(3), False, memory).codes == []
    assert memory.start == 4


def test_only_the_first_and_the_last_unit_of_a_turn_may_end_early() -> None:
    decoder = _decoder(SPEECH)
    seen: list[float] = []

    def draw(probabilities: Tensor) -> Tensor:
        seen.append(float(probabilities[END]))
        return never_the_end(probabilities)

    memory = decoder.start(draw=draw)
    chances = []
    for ends_turn in (False, False, True):
        seen.clear()
        decoder.say(*_words(3), ends_turn, memory)
        chances.append(all(chance > 0 for chance in seen))

    assert chances == [True, False, True]


def test_the_end_of_a_turn_forgets_it(decoder: SpeechDecoder) -> None:
    memory, fresh = (decoder.start(draw=most_likely) for _ in range(2))
    decoder.say(*_words(5, seed=1), False, memory)

    last = decoder.say(*_words(5, seed=2), True, memory)
    after = decoder.say(*_words(5, seed=3), False, memory)

    assert last.length > 30
    assert after.start == 0
    assert after.codes == decoder.say(*_words(5, seed=3), False, fresh).codes


def test_a_turn_that_was_cut_is_forgotten_on_request_and_goes_on_otherwise(decoder: SpeechDecoder) -> None:
    cut, kept, fresh = (decoder.start(draw=never_the_end) for _ in range(3))
    for memory in (cut, kept):
        decoder.say(*_words(5, seed=1), False, memory)

    cut.reset()
    after_cut, after_kept, from_fresh = (
        decoder.say(*_words(5, seed=2), False, memory) for memory in (cut, kept, fresh)
    )

    assert (after_cut.start, after_cut.codes) == (0, from_fresh.codes)
    assert after_kept.start == 6 + 25


def test_a_turn_longer_than_the_trained_positions_goes_on_as_a_new_one() -> None:
    decoder = _decoder(replace(SPEECH, max_positions=100))
    memory, fresh = (decoder.start(draw=never_the_end) for _ in range(2))

    said = [decoder.say(*_words(5, seed=seed), False, memory) for seed in range(8)]

    assert [each.start for each in said] == [0, 31, 62, 0, 31, 62, 0, 31]
    assert [each.has_restarted for each in said] == [False, False, False, True, False, False, True, False]
    assert said[3].codes == decoder.say(*_words(5, seed=3), False, fresh).codes
    assert memory.cache.nbytes == fresh.cache.nbytes


def test_chance_speaks_alike_for_one_seed_and_differently_for_another(decoder: SpeechDecoder) -> None:
    def codes(seed: int) -> list[int]:
        memory = decoder.start(draw=SeededDraw(seed))
        return [code for unit in range(3) for code in decoder.say(*_words(4, seed=unit), False, memory).codes]

    assert codes(1) == codes(1)
    assert codes(1) != codes(2)


def test_a_code_is_discouraged_each_time_it_was_said_whatever_the_sign_of_its_score() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0], [2.0, -2.0, 1.0]])
    recent = torch.tensor([[0, 1, 1], [2, 2, 2]])

    once = discouraged(logits, recent, 2.0)

    assert once.tolist() == [[1.0, -8.0, 1.0], [2.0, -2.0, 0.125]]


@pytest.mark.parametrize(
    "words",
    [([1, 2], [torch.zeros(WIDTH)]), ([SPEECH.num_text_tokens], [torch.zeros(WIDTH)]), ([-1], [torch.zeros(WIDTH)])],
    ids=["a state is missing", "a token beyond the table", "a token below 0"],
)
def test_a_request_that_makes_no_sense_fails_alone(
    decoder: SpeechDecoder, words: tuple[list[int], list[Tensor]]
) -> None:
    memories = [decoder.start(draw=most_likely) for _ in range(2)]

    bad, good = decoder.say_together([_request(words, memories[0]), _request(_words(3), memories[1])])

    assert isinstance(bad, ModelError)
    assert "expected as many states as tokens" in str(bad)
    assert isinstance(good, Said)


def test_a_state_that_is_no_number_fails_alone_and_leaves_a_clean_memory(decoder: SpeechDecoder) -> None:
    ids, hidden = _words(3)
    hidden[1] = torch.full((WIDTH,), float("nan"))
    memories = [decoder.start(draw=never_the_end, keeps_scores=True) for _ in range(2)]

    bad, good = decoder.say_together([_request((ids, hidden), memories[0]), _request(_words(3), memories[1])])

    assert isinstance(bad, ModelError)
    assert bad.can_retry
    assert isinstance(good, Said)
    assert good.scores is not None
    assert bool(good.scores.isfinite().all())
    assert memories[0].start == 0
    assert len(decoder.say(*_words(3), False, memories[0]).codes) == 25


def test_saying_alone_raises_what_is_wrong(decoder: SpeechDecoder) -> None:
    with pytest.raises(ModelError, match="tokens below 513"):
        decoder.say([600], [torch.zeros(WIDTH)], False, decoder.start())


def test_a_checkpoint_whose_head_is_multiplied_out_speaks_alike(decoder: SpeechDecoder) -> None:
    state = _weights()
    direction, length = state.pop(f"{HEAD}original1"), state.pop(f"{HEAD}original0")
    state["head_code.0.weight"] = direction / direction.norm(dim=1, keepdim=True) * length
    folded = SpeechDecoder(SPEECH, WIDTH)
    folded.load_state_dict(state)

    ours = folded.say(*_words(6), False, folded.start(draw=most_likely, keeps_scores=True))
    theirs = decoder.say(*_words(6), False, decoder.start(draw=most_likely, keeps_scores=True))

    assert ours.codes == theirs.codes
    assert ours.scores is not None
    assert theirs.scores is not None
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=1e-5)


def test_weights_that_are_loaded_or_cast_later_are_the_ones_that_speak(decoder: SpeechDecoder) -> None:
    late = SpeechDecoder(SPEECH, WIDTH)
    late.say(*_words(3), False, late.start())  # the head is multiplied out here
    late.load_state_dict(_weights())

    said = late.say(*_words(3), False, late.start(draw=most_likely))
    late.to(torch.bfloat16)
    cast = late.say(_words(3)[0], [h.bfloat16() for h in _words(3)[1]], False, late.start(draw=most_likely))

    assert said.codes == decoder.say(*_words(3), False, decoder.start(draw=most_likely)).codes
    assert cast.condition.dtype == torch.bfloat16


def test_in_bfloat16_the_codes_are_about_as_likely(decoder: SpeechDecoder) -> None:
    halved = _decoder(SPEECH).to(torch.bfloat16)
    ids, hidden = _words(6)

    exact = decoder.say(ids, hidden, False, decoder.start(draw=most_likely, keeps_scores=True)).scores
    memory = halved.start(draw=most_likely, keeps_scores=True)
    rounded = halved.say(ids, [each.bfloat16() for each in hidden], False, memory).scores

    assert exact is not None
    assert rounded is not None
    assert float((exact[0] - rounded[0]).abs().sum()) < 0.1  # of 2: total variation at the first step


def test_the_names_of_the_weights_are_the_published_ones(decoder: SpeechDecoder) -> None:
    assert set(decoder.state_dict()) == set(_weights())


def _decoder(config: SpeechConfig) -> SpeechDecoder:
    decoder = SpeechDecoder(config, WIDTH)
    decoder.load_state_dict(_weights())
    return decoder


def _weights() -> dict[str, Tensor]:
    with safe_open(GOLDEN / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.startswith("tts.") and not name.startswith(UNUSED)]  # noqa: SIM118
        return {name.removeprefix("tts."): file.get_tensor(name) for name in names}


def _words(count: int, seed: int = 0) -> tuple[list[int], list[Tensor]]:
    """Something said: token ids and the states they were said in."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(0, 400, (count,), generator=generator).tolist()
    return ids, list(torch.randn(count, WIDTH, generator=generator))


def _request(words: tuple[Sequence[int], Sequence[Tensor]], memory: SpeechMemory) -> Say:
    return Say(token_ids=words[0], hidden=words[1], ends_turn=False, memory=memory)


def _say_condition(decoder: SpeechDecoder, condition: Tensor, ends_turn: bool, memory: SpeechMemory) -> Said:
    """Speak from a published condition: the states it was made of are not shipped for every unit."""
    decoder.condition = lambda token_ids, hidden: condition  # type: ignore[method-assign]
    return decoder.say([0] * (len(condition) - 1), [torch.zeros(WIDTH)] * (len(condition) - 1), ends_turn, memory)


def never_the_end(probabilities: Tensor) -> Tensor:
    return probabilities[:END].argmax()


def _script(codes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    left = iter(codes)
    return lambda _probabilities: torch.tensor(next(left))
