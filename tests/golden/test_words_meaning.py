"""The text model gives what torch gives, and with it no sentence of the table chooses a wrong rule.

minilm_vectors.npz: sentences and their vectors by transformers' BertModel on the weights that the cabinet pulls, one
sentence at a time: mean over word pieces, length one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import load_rulebook
from omni_watch.domain.errors import ModelError
from omni_watch.duplex.embedded.similarity import MiniLm, embed
from omni_watch.watch.choosing import choose
from omni_watch.watch.wording import read

HERE = Path(__file__).parent
BOOK = load_rulebook()
WORDS_TABLE = yaml.safe_load((HERE / "words_table.yaml").read_text(encoding="utf-8"))
ENOUGH = 0.6  # of the synonyms; the rest ask to be shown, which is right too
LARGEST_DIFFERENCE = 1e-4


@pytest.fixture(scope="module")
def files(cabinet: Cabinet) -> tuple[Path, Path]:
    model, tokenizer = cabinet.find("minilm"), cabinet.find("minilm-tokenizer")
    assert model is not None
    assert tokenizer is not None
    return model, tokenizer


@pytest.fixture(scope="module")
def similarity(files: tuple[Path, Path]) -> MiniLm:
    """Knows every condition of the tests beforehand: one load of the model in place of one for each."""
    kept = MiniLm(*files)
    sentences = [str(sentence) for sentence in WORDS_TABLE["nothing"]]
    sentences += [sentence for sentence, _ in WORDS_TABLE["meaning"]]
    sentences += [sentence for tests in BOOK.tests.values() for sentence in tests.refusals]
    kept.similarity("", [read(sentence, BOOK.phrasebook.tongues).condition for sentence in sentences])
    return kept


def chosen(sentence: str, similarity: MiniLm) -> str | None:
    return choose(read(sentence, BOOK.phrasebook.tongues), BOOK.phrasebook, similarity).rule


def test_sentences_of_every_length_alone_and_together_give_what_torch_gives(files: tuple[Path, Path]) -> None:
    golden = np.load(HERE / "minilm_vectors.npz")
    sentences = [str(sentence) for sentence in golden["sentences"]]
    together = embed(sentences, *files)
    alone = np.concatenate([embed([sentence], *files) for sentence in sentences])
    assert np.abs(together - golden["vectors"]).max() < LARGEST_DIFFERENCE
    assert np.abs(alone - golden["vectors"]).max() < LARGEST_DIFFERENCE


def test_similarities_come_in_the_order_asked_for(similarity: MiniLm) -> None:
    others = ["a long sentence about the weather in the mountains", "the kettle is full", "dog", "the kettle is full"]
    far, same, other, again = similarity.similarity("the kettle is full", others)
    assert same == again == pytest.approx(1.0, abs=1e-5)
    assert max(far, other) < 0.6
    assert similarity.similarity("dog", []) == []


def test_no_sentence_chooses_a_wrong_rule_by_meaning(similarity: MiniLm) -> None:
    refusals = [(rule, sentence) for rule, tests in BOOK.tests.items() for sentence in tests.refusals]
    assert [sentence for rule, sentence in refusals if chosen(sentence, similarity) == rule] == []
    assert [sentence for sentence in WORDS_TABLE["nothing"] if chosen(sentence, similarity)] == []


def test_most_synonyms_choose_their_rule_and_none_another(similarity: MiniLm) -> None:
    found = [(rule, chosen(sentence, similarity)) for sentence, rule in WORDS_TABLE["meaning"]]
    assert [pair for pair in found if pair[1] not in {pair[0], None}] == []
    assert sum(rule == choice for rule, choice in found) >= ENOUGH * len(found)


def test_meaning_finds_what_words_do_not(similarity: MiniLm) -> None:
    wording = read("let me know when the kettle comes up to a rolling boil", BOOK.phrasebook.tongues)
    assert choose(wording, BOOK.phrasebook).rule is None
    choice = choose(wording, BOOK.phrasebook, similarity)
    assert choice.rule == "kettle_boiling"
    assert choice.score < 1.0
    assert "means about the same" in choice.why


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("content", [None, b"not a model"])
def test_a_missing_or_damaged_file_names_the_command_that_mends_it(
    files: tuple[Path, Path], tmp_path: Path, which: int, content: bytes | None
) -> None:
    bad = tmp_path / "bad"
    if content is not None:
        bad.write_bytes(content)
    paths = [bad if at == which else path for at, path in enumerate(files)]
    with pytest.raises(ModelError, match=r"bad: .*omni-watch models pull"):
        MiniLm(*paths).similarity("a", ["b"])
