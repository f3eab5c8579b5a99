"""The vocabulary: names to ids, text to ids and back, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.tokens import NAMES, TOKENIZER, TOKENIZER_CONFIG, Tokens
from tests.fixtures_minicpmo import TINY

TOKENS = Tokens.read(TINY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Just the tokenizer's two files, to be changed."""
    for name in (TOKENIZER, TOKENIZER_CONFIG):
        shutil.copy(TINY / name, tmp_path / name)
    return tmp_path


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_every_steering_token_has_the_recorded_id() -> None:
    recorded = json.loads((TINY / "meta.json").read_text())["special_ids"]
    ids = {NAMES[attribute]: getattr(TOKENS, attribute) for attribute in NAMES}
    assert {name: ids[name] for name in ids if name in recorded} == {
        name: recorded[name] for name in recorded if name in ids
    }
    assert len(set(ids) & set(recorded)) == 17, "all of them were recorded"


@pytest.mark.parametrize("session", ["main_off", "basic_window", "context_window", "long_audio", "hd_slices"])
def test_prompts_become_the_recorded_ids(session: str) -> None:
    asked = {entry["name"]: entry for entry in json.loads((TINY / "sessions.json").read_text())}[session]
    recorded = json.loads((TINY / f"expected_{session}.json").read_text())["prepare"]
    assert TOKENS.encode(asked["prefix"]) == recorded["prefix_ids"]
    assert TOKENS.encode(asked["suffix"]) == recorded["suffix_ids"]
    assert TOKENS.encode("\n\nprevious: ") == recorded["marker_ids"]


@pytest.mark.parametrize("session", ["main_off", "basic_window", "context_window"])
def test_what_was_said_decodes_to_the_recorded_text(session: str) -> None:
    units = json.loads((TINY / f"expected_{session}.json").read_text())["units"]
    said = [unit for unit in units if unit["text"]]
    assert said
    for unit in said:
        assert TOKENS.decode(unit["unit_token_ids"]) == unit["text"]


@given(st.text())
def test_text_survives_the_way_to_ids_and_back(text: str) -> None:
    plain = TOKENS.without_specials(text)
    assert TOKENS.decode(TOKENS.encode(plain)) == plain


PIECES = st.sampled_from(["<|im_end|>", "<|im_", "end|>", "<|turn_eos|>", "<unk>", "</unit>", "<", "|>", "ok", "水"])


@given(st.lists(PIECES).map("".join))
def test_no_wording_of_a_task_can_bring_a_special_token_into_a_prompt(wording: str) -> None:
    assert not set(TOKENS.encode(TOKENS.without_specials(wording))) & TOKENS.special_ids


def test_special_tokens_are_never_read_to_a_person() -> None:
    ids = [TOKENS.speak, *TOKENS.encode("tea"), TOKENS.turn_eos, TOKENS.chunk_eos]
    assert TOKENS.decode(ids) == "tea"
    turn_bos = TOKENS.id_of("<|turn_bos|>")
    assert turn_bos in TOKENS.special_ids
    assert TOKENS.turn_eos in TOKENS.special_ids


def test_thinking_is_ordinary_text_to_the_published_tokenizer() -> None:
    think = TOKENS.id_of("<think>")
    assert think is not None
    assert think not in TOKENS.special_ids
    assert TOKENS.decode([think]) == "<think>"


def test_the_ids_that_must_never_be_generated_are_read() -> None:
    assert TOKENS.bad_ids == (5, 17, 30, 64)


def test_a_missing_steering_token_is_named(folder: Path) -> None:
    raw = json.loads((folder / TOKENIZER).read_text())
    kept = [token for token in raw["added_tokens"] if token["content"] not in ("<|listen|>", "</unit>")]
    change(folder / TOKENIZER, added_tokens=kept)
    with pytest.raises(ModelError, match=r"no token </unit>, <\|listen\|>; MiniCPM-o 4.5 has them"):
        Tokens.read(folder)


def test_tokens_that_only_the_second_file_lists_are_added_under_their_ids(folder: Path) -> None:
    raw = json.loads((folder / TOKENIZER).read_text())
    change(folder / TOKENIZER, added_tokens=[token for token in raw["added_tokens"] if token["id"] < 500])
    listed = {str(token["id"]): token for token in raw["added_tokens"] if token["id"] >= 500}
    change(folder / TOKENIZER_CONFIG, added_tokens_decoder=listed)
    assert Tokens.read(folder).size == TOKENS.size
    assert Tokens.read(folder).special_ids == TOKENS.special_ids


def test_two_files_of_different_checkpoints_are_refused(folder: Path) -> None:
    change(folder / TOKENIZER_CONFIG, added_tokens_decoder={"7": {"content": "<|listen|>", "special": True}})
    with pytest.raises(ModelError, match=r"<\|listen\|> is token 7, but tokenizer.json makes it 462"):
        Tokens.read(folder)


@pytest.mark.parametrize("name", [TOKENIZER, TOKENIZER_CONFIG])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"{name} is missing"):
        Tokens.read(folder)


@pytest.mark.parametrize("name", [TOKENIZER, TOKENIZER_CONFIG])
@pytest.mark.parametrize("content", ["", '{"version": "1.0", ', "version https://git-lfs.github.com/spec/v1\n", "[]"])
def test_a_damaged_file_is_named(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=rf"{name} .*download it again"):
        Tokens.read(folder)


@pytest.mark.parametrize("bad", [[506], [-1], ["5"], 7])
def test_ids_outside_the_vocabulary_are_refused(folder: Path, bad: Any) -> None:
    change(folder / TOKENIZER_CONFIG, bad_token_ids=bad)
    with pytest.raises(ModelError, match="bad_token_ids must be ids below 506"):
        Tokens.read(folder)


@pytest.mark.parametrize("rows", [505, 1018, 151748])
def test_a_table_of_another_vocabulary_is_refused(rows: int) -> None:
    with pytest.raises(ModelError, match=rf"506 tokens, but llm.model.embed_tokens.weight has {rows} rows"):
        TOKENS.check_tables(rows, 513, TINY)


def test_a_speech_decoder_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(ModelError, match=r"506 tokens, but tts.emb_text.weight has 500 rows"):
        TOKENS.check_tables(506, 500, TINY)


@pytest.mark.parametrize(("language", "speech"), [(506, 513), (506, None), (512, 152064)])
def test_tables_rounded_up_are_taken(language: int, speech: int | None) -> None:
    TOKENS.check_tables(language, speech, TINY)
