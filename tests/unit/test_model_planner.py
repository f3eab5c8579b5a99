"""How the language model would watch, by the senses that a feed gives."""

from __future__ import annotations

import pytest

from omni_watch.domain.decisions import Means
from omni_watch.duplex.minicpmo.planning import FeedSenses, plan
from omni_watch.watch.briefing import BriefedTask
from tests.fakes.hearing import BOOK
from tests.fakes.values import a_task


def briefed(rule: str, language: str = "en") -> BriefedTask:
    return BriefedTask(task=a_task(rule=rule, language=language), rule=BOOK.book.rule(rule))


@pytest.mark.parametrize(("language", "says"), [("en", "I am not to listen there"), ("zh", "那里不让我听")])
def test_what_can_only_be_heard_is_not_watched_where_we_are_not_to_listen(language: str, says: str) -> None:
    deaf = plan(briefed("dog_barking", language), FeedSenses(is_deaf=True))
    assert deaf.is_blind
    assert says in deaf.why[0]
    assert "omni-watch listen FEED on" in deaf.ask


def test_what_can_be_seen_is_watched_all_the_same() -> None:
    assert plan(briefed("microwave_done"), FeedSenses(is_deaf=True)).means == (Means.MODEL,)
    assert "looks at the picture" in plan(briefed("microwave_done"), FeedSenses(is_deaf=True)).why[0]
