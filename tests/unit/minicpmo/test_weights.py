"""Several feeds over the same weights: together as alone, and no one's failure is another's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.cache import KeyValueCache
from omni_watch.duplex.minicpmo.checkpoint import open_checkpoint
from omni_watch.duplex.minicpmo.speech import SpeechMemory
from omni_watch.duplex.minicpmo.weights import MiniCpmO, run_together
from omni_watch.duplex.minicpmo.work import Fed, Feed, Hear, Request, Say, See, Work
from tests.fixtures_minicpmo import TINY

MODEL = open_checkpoint(TINY).load(dtype=torch.float32)
WIDTH = MODEL.config.language.hidden_size


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_alike(ours: Any, theirs: Any) -> None:
    """As close as sums in another order are: packed and alone, matrices are multiplied differently."""
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=5e-5)


def answers_to(*requests: Request, model: MiniCpmO = MODEL) -> list[Any]:
    answers = model.perform(requests)
    assert not any(isinstance(answer, ModelError) for answer in answers)
    return answers


def picture(seed: int, columns: int = 3) -> Tensor:
    return noise(3, 28, 14 * columns, seed=seed)


def reading(length: int, seed: int = 0, cache: KeyValueCache | None = None) -> Work[Fed]:
    """Feeds some rows and reads what comes."""
    fed: Fed = yield Feed(embeddings=noise(length, WIDTH, seed=seed), cache=cache or MODEL.llm.new_cache())
    return fed


def second(seed: int, pictures: int, length: int, tokens: int) -> Work[dict[str, Tensor]]:
    """A unit of a feed in small: see, hear, feed, and a few tokens one by one, then speech."""
    found: dict[str, Tensor] = {}
    cache, hearing, speech = MODEL.llm.new_cache(), MODEL.apm.start(), speech_memory()
    seen: list[Tensor] = []
    if pictures:
        seen = yield See(pictures=[picture(seed + i, 2 + i) for i in range(pictures)])
        found["seen"] = torch.cat(seen)
    found["heard"] = yield Hear(mel=noise(80, 102, seed=seed), memory=hearing)
    rows = torch.cat([noise(length, WIDTH, seed=seed), *seen, found["heard"]])
    yield Feed(embeddings=rows[:1], cache=cache, wants_logits=False)
    fed = yield Feed(embeddings=rows[1:], cache=cache)
    ids, hidden = [], []
    for _ in range(tokens):
        ids.append(int(fed.logits.argmax()))
        hidden.append(fed.hidden)
        fed = yield Feed(embeddings=MODEL.llm.embed(ids[-1:]), cache=cache)
    said = yield Say(token_ids=ids, hidden=hidden, ends_turn=True, memory=speech)
    found |= {"logits": fed.logits, "hidden": fed.hidden, "ids": torch.tensor(ids), "codes": torch.tensor(said.codes)}
    return found


KINDS = st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(2, 20), st.integers(0, 4))  # of `second`


@settings(max_examples=15, deadline=None)
@given(st.lists(KINDS, min_size=1, max_size=4))
def test_who_else_is_served_never_changes_what_a_feed_gets(kinds: list[tuple[int, int, int, int]]) -> None:
    together = run_together(MODEL, [second(*kind) for kind in kinds])
    for kind, served in zip(kinds, together, strict=True):
        (alone,) = run_together(MODEL, [second(*kind)])
        assert isinstance(served, dict)
        assert isinstance(alone, dict)
        assert_alike(served, alone)


def test_seconds_that_do_not_divide_evenly_are_averaged_each_by_itself() -> None:
    """50 positions in means of 4: the two left over belong to nobody, and least of all to the next feed."""
    model = MiniCpmO(replace(MODEL.config, audio=replace(MODEL.config.audio, pool_step=4))).eval()

    def hearing(seed: int) -> Work[Tensor]:
        memory = model.apm.start()
        yield Hear(mel=noise(80, 102, seed=seed), memory=memory)
        heard: Tensor = yield Hear(mel=noise(80, 104, seed=seed), memory=memory)
        return heard

    together = run_together(model, [hearing(seed) for seed in range(3)])
    for seed, heard in enumerate(together):
        (alone,) = run_together(model, [hearing(seed)])
        assert isinstance(heard, Tensor)
        assert len(heard) == 12
        assert_alike(heard, alone)


@contextmanager
def calls_of(module: nn.Module) -> Iterator[list[Any]]:
    """The first argument of each call."""
    seen: list[Any] = []
    hook = module.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    yield seen
    hook.remove()


def test_what_is_asked_at_a_moment_is_one_forward_and_logits_only_where_they_are_read() -> None:
    def silent(length: int) -> Work[Fed]:
        fed: Fed = yield Feed(embeddings=noise(length, WIDTH), cache=MODEL.llm.new_cache(), wants_logits=False)
        return fed

    with calls_of(MODEL.llm) as passes, calls_of(MODEL.llm.lm_head) as read, calls_of(MODEL.vpm) as looks:
        *fed, seen = run_together(MODEL, [silent(3), reading(4), silent(5), reading(6), second(0, 2, 3, 0)])
    assert isinstance(seen, dict)
    assert [[len(piece) for piece in pieces] for pieces in passes] == [[3, 4, 5, 6], [1], [2 + 64 + 64 + 10]]
    assert [len(hidden) for hidden in read] == [2, 1]
    assert [len(pictures) for pictures in looks] == [2]
    assert [isinstance(each, Fed) and each.logits is not None for each in fed] == [False, True, False, True]


def test_many_pictures_are_encoded_in_bounded_portions() -> None:
    pictures = [picture(seed, 1 + seed % 4) for seed in range(37)]

    def look() -> Work[list[Tensor]]:
        seen: list[Tensor] = yield See(pictures=pictures)
        return seen

    with calls_of(MODEL.vpm) as looks:
        together, few = run_together(MODEL, [look(), second(36, 1, 2, 0)])
    assert [len(some) for some in looks] == [16, 16, 6]
    assert isinstance(together, list)
    (alone,) = answers_to(See(pictures=pictures[36:]))
    assert_alike(together[36], alone[0])
    assert isinstance(few, dict)


def test_answers_come_in_the_order_of_the_requests() -> None:
    heard, fed, seen, heard_too, nothing = answers_to(
        Hear(mel=noise(80, 102), memory=MODEL.apm.start()),
        Feed(embeddings=noise(2, WIDTH), cache=MODEL.llm.new_cache()),
        See(pictures=[picture(0)]),
        Hear(mel=noise(80, 102, seed=1), memory=MODEL.apm.start()),
        See(pictures=[]),
    )
    assert (heard.shape, fed.hidden.shape, seen[0].shape) == ((10, WIDTH), (WIDTH,), (64, WIDTH))
    assert not torch.equal(heard, heard_too)
    assert nothing == []


def test_no_work_is_no_trouble() -> None:
    assert run_together(MODEL, []) == []
    assert MODEL.perform([]) == []


def test_a_work_runs_in_inference_mode_from_its_first_line() -> None:
    def work() -> Work[bool]:
        begins = torch.is_inference_mode_enabled()
        yield Feed(embeddings=noise(1, WIDTH), cache=MODEL.llm.new_cache())
        return begins and torch.is_inference_mode_enabled()

    assert run_together(MODEL, [work()]) == [True]


# failures


def speech_memory() -> SpeechMemory:
    assert MODEL.tts is not None
    return MODEL.tts.start(draw=lambda probabilities: probabilities.argmax())


def full_cache() -> KeyValueCache:
    return MODEL.llm.new_cache(capacity=2, maximum=2)


BAD = {
    "rows of another width": lambda: Feed(embeddings=noise(3, WIDTH + 1), cache=MODEL.llm.new_cache()),
    "no rows": lambda: Feed(embeddings=noise(0, WIDTH), cache=MODEL.llm.new_cache()),
    "a cache that is full": lambda: Feed(embeddings=noise(3, WIDTH), cache=full_cache()),
    "a picture in grey": lambda: See(pictures=[picture(0), noise(1, 28, 28)]),
    "a picture of half patches": lambda: See(pictures=[noise(3, 28, 20)]),
    "a mel of another length": lambda: Hear(mel=noise(80, 77), memory=MODEL.apm.start()),
    "words without states": lambda: Say(token_ids=[1, 2], hidden=[], ends_turn=True, memory=speech_memory()),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_request_fails_its_own_work_only(bad: Callable[[], Any]) -> None:
    def asking() -> Work[str]:
        yield bad()
        return "answered"

    before, refused, after = run_together(MODEL, [second(1, 1, 5, 2), asking(), second(2, 2, 9, 1)])
    assert isinstance(refused, ModelError)
    assert not refused.can_retry
    for served, kind in ((before, (1, 1, 5, 2)), (after, (2, 2, 9, 1))):
        (alone,) = run_together(MODEL, [second(*kind)])
        assert isinstance(served, dict)
        assert isinstance(alone, dict)
        assert_alike(served, alone)


@pytest.mark.parametrize("error", [ModelError("no"), RuntimeError("size mismatch"), ValueError("no"), IndexError("no")])
def test_a_work_that_fails_by_itself_disturbs_no_other(error: Exception) -> None:
    def failing() -> Work[Fed]:
        yield Feed(embeddings=noise(1, WIDTH), cache=MODEL.llm.new_cache())
        raise error

    failed, served = run_together(MODEL, [failing(), reading(3)])
    assert isinstance(failed, ModelError)
    assert failed is error or failed.__cause__ is error
    assert isinstance(served, Fed)


def test_a_bug_in_a_work_is_not_hidden_and_leaves_no_other_open() -> None:
    closed = []

    def watching() -> Work[None]:
        try:
            while True:
                yield Feed(embeddings=noise(1, WIDTH), cache=MODEL.llm.new_cache())
        finally:
            closed.append(True)

    def wrong() -> Work[None]:
        yield Feed(embeddings=noise(1, WIDTH), cache=MODEL.llm.new_cache())
        raise KeyError("a mistake of ours")

    with pytest.raises(KeyError, match="a mistake of ours"):
        run_together(MODEL, [watching(), wrong()])
    assert closed == [True]


def test_a_work_may_go_on_after_a_refusal() -> None:
    def stubborn() -> Work[Fed]:
        cache = full_cache()
        try:
            yield Feed(embeddings=noise(3, WIDTH), cache=cache)
        except ModelError:
            fed: Fed = yield Feed(embeddings=noise(2, WIDTH), cache=cache)
            return fed
        raise AssertionError("a full cache took more")

    gone_on, other = run_together(MODEL, [stubborn(), reading(4)])
    assert isinstance(gone_on, Fed)
    assert isinstance(other, Fed)


def test_a_failed_pass_leaves_every_memory_as_it_was() -> None:
    caches = [MODEL.llm.new_cache() for _ in range(2)]
    run_together(MODEL, [reading(3, seed=i, cache=cache) for i, cache in enumerate(caches)])

    def bad() -> Work[Fed]:
        fed: Fed = yield Feed(embeddings=noise(2, WIDTH - 1), cache=MODEL.llm.new_cache())
        return fed

    works = [reading(2, seed=7, cache=caches[0]), bad(), reading(2, seed=8, cache=caches[1])]
    first, _, last = run_together(MODEL, works)
    assert [cache.length for cache in caches] == [5, 5], "fed once, not twice"
    assert isinstance(first, Fed)
    assert isinstance(last, Fed)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_end_their_own_work_which_may_try_again(poison: float) -> None:
    def spoilt() -> Work[int]:
        rows = noise(3, WIDTH)
        rows[1, 5] = poison
        fed = yield Feed(embeddings=rows, cache=MODEL.llm.new_cache())
        return int(fed.logits.argmax())

    failed, served = run_together(MODEL, [spoilt(), reading(3)])
    assert isinstance(failed, ModelError)
    assert failed.can_retry
    assert "not finite" in str(failed)
    assert isinstance(served, Fed)
    (alone,) = run_together(MODEL, [reading(3)])
    assert isinstance(alone, Fed)
    assert_alike(served.logits, alone.logits)


def test_a_poison_that_was_fed_silently_is_found_at_the_next_decision() -> None:
    cache = MODEL.llm.new_cache()

    def silent() -> Work[None]:
        yield Feed(embeddings=torch.full((2, WIDTH), torch.nan), cache=cache, wants_logits=False)

    assert run_together(MODEL, [silent()]) == [None]
    (failed,) = run_together(MODEL, [reading(1, cache=cache)])
    assert isinstance(failed, ModelError)
    assert failed.can_retry


def test_a_poisoned_decision_is_found_though_later_ones_look_well() -> None:
    def healed() -> Work[str]:
        yield Feed(embeddings=torch.full((1, WIDTH), torch.nan), cache=MODEL.llm.new_cache())
        yield Feed(embeddings=noise(1, WIDTH), cache=MODEL.llm.new_cache())
        return "fine"

    (failed,) = run_together(MODEL, [healed()])
    assert isinstance(failed, ModelError)


def failing_part(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(MODEL.llm, "forward", fail)


def test_out_of_device_memory_ends_all_and_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = MODEL.llm.new_cache()
    with monkeypatch.context() as patch:
        failing_part(patch, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
        outcomes = run_together(MODEL, [reading(3, cache=cache), second(0, 1, 3, 0), reading(1)])
    for outcome in outcomes:
        assert isinstance(outcome, ModelError)
        assert outcome.can_retry
        assert "ran out of memory" in str(outcome)
        assert isinstance(outcome.__cause__, torch.OutOfMemoryError)
    (again,) = run_together(MODEL, [reading(3, cache=cache)])
    assert isinstance(again, Fed)
    assert cache.length == 3


def test_out_of_memory_within_a_work_is_worth_another_try() -> None:
    def hungry() -> Work[None]:
        yield Feed(embeddings=noise(1, WIDTH), cache=MODEL.llm.new_cache())
        raise torch.OutOfMemoryError("CUDA out of memory")

    hungry_one, other = run_together(MODEL, [hungry(), reading(2)])
    assert isinstance(hungry_one, ModelError)
    assert hungry_one.can_retry
    assert isinstance(other, Fed)


def test_a_device_that_failed_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_part(monkeypatch, torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    outcomes = run_together(MODEL, [reading(3), reading(1)])
    for outcome in outcomes:
        assert isinstance(outcome, ModelError)
        assert not outcome.can_retry
        assert "cannot be used again by this process" in str(outcome)


def test_without_its_decoder_speech_is_refused() -> None:
    mute = open_checkpoint(TINY).load(dtype=torch.float32, with_speech=False)
    say = Say(token_ids=[], hidden=[], ends_turn=True, memory=speech_memory())
    refused, also = mute.perform([say, say])
    assert isinstance(refused, ModelError)
    assert isinstance(also, ModelError)
    assert "speech decoder is not loaded" in str(refused)


def test_device_and_type_are_those_of_the_weights() -> None:
    half: MiniCpmO = open_checkpoint(TINY).load(dtype=torch.bfloat16)
    assert (half.device, half.dtype) == (torch.device("cpu"), torch.bfloat16)
    (fed,) = answers_to(Feed(embeddings=noise(3, WIDTH).bfloat16(), cache=half.llm.new_cache()), model=half)
    (exact,) = answers_to(Feed(embeddings=noise(3, WIDTH), cache=MODEL.llm.new_cache()))
    assert fed.hidden.dtype is torch.bfloat16
    assert fed.logits.dtype is torch.float32
    torch.testing.assert_close(fed.hidden.float(), exact.hidden, rtol=0.05, atol=0.15)
