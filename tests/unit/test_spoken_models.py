"""Which speech model recognises: the best that is here, fits, and knows the language."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni_watch.app.words import free_memory_mb
from omni_watch.cabinet import Table
from omni_watch.duplex.embedded.words.models import MODELS, SPARE_MB, ChosenModel, choose_model

BASE, TINY = MODELS
AMPLE = 8000


def everything(id_: str) -> Path | None:
    return Path(id_)


def without(*ids: str) -> object:
    return lambda id_: None if id_ in ids else Path(id_)


def test_the_cabinet_has_what_the_models_are_made_of() -> None:
    entries = Table.shipped().entries
    for model in MODELS:
        asked: list[str] = []
        assert model.files(lambda id_, asked=asked: asked.append(id_) or Path(id_)) is not None  # type: ignore[misc]
        assert set(asked) <= set(entries)


def test_the_multilingual_one_is_taken_where_it_fits() -> None:
    chosen = choose_model(everything, AMPLE, ("en", "zh"))
    assert isinstance(chosen, ChosenModel)
    assert chosen.model is BASE
    assert chosen.passed_over == ""
    assert chosen.files.named["model.bin"] == Path("whisper-base")


def test_when_memory_is_short_the_small_english_one_is_taken_and_the_reason_told() -> None:
    chosen = choose_model(everything, BASE.peak_mb + SPARE_MB - 1, ("en", "zh"))
    assert isinstance(chosen, ChosenModel)
    assert chosen.model is TINY
    assert "whisper-base needs" in chosen.passed_over


@pytest.mark.parametrize("lacking", ["whisper-base", "whisper-base-tokenizer"])
def test_a_model_with_a_file_missing_is_passed_over(lacking: str) -> None:
    chosen = choose_model(without(lacking), AMPLE, ("en",))  # type: ignore[arg-type]
    assert isinstance(chosen, ChosenModel)
    assert chosen.model is TINY
    assert "whisper-base is missing; run `omni-watch models pull`" in chosen.passed_over


def test_where_nobody_speaks_english_the_english_one_is_no_help() -> None:
    why = choose_model(everything, BASE.peak_mb, ("zh",))
    assert isinstance(why, str)
    assert "whisper-tiny-en knows English only" in why


def test_with_no_memory_at_all_it_is_said_how_much_is_wanted() -> None:
    why = choose_model(everything, 10, ("en",))
    assert isinstance(why, str)
    assert "10 MB are free" in why


@pytest.mark.parametrize(
    ("content", "expected_mb"), [("MemTotal: 9\nMemAvailable:  2048000 kB\n", 2000), ("MemTotal: 9 kB\n", 1 << 20)]
)
def test_free_memory_is_what_the_system_says_is_available(tmp_path: Path, content: str, expected_mb: int) -> None:
    (tmp_path / "meminfo").write_text(content)
    assert free_memory_mb(tmp_path / "meminfo") == expected_mb
    assert free_memory_mb(tmp_path / "none") == 1 << 20
