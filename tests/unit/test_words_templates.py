"""Templates match what they can be written out as, and nothing less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.watch.templates import expand, parse, pattern, slots

WORD = st.sampled_from(["tell", "me", "when", "bell", "rings"])
TEMPLATE = st.recursive(
    WORD,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(" ".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: f"({'|'.join(options)})"),
        inner.map(lambda one: f"[{one}]"),
    ),
    max_leaves=6,
)


@given(TEMPLATE)
def test_every_written_out_way_fits_its_own_template(template: str) -> None:
    node = parse(template)
    fits = pattern(node)
    for way in expand(node, {}):
        assert fits.fullmatch(way) or fits.fullmatch(f"{way} ") or not way


def test_the_plainest_way_comes_first() -> None:
    ways = expand(parse("[my ]{name} (rings|goes off)"), {"name": ("bell", "alarm")})
    assert ways[0] == "bell rings"
    assert set(ways) == {
        f"{my}{name} {does}" for my in ("", "my ") for name in ("bell", "alarm") for does in ("rings", "goes off")
    }


def test_words_match_only_whole_words() -> None:
    fits = pattern(parse("call me {condition}"))
    assert fits.fullmatch("call me maybe")
    assert fits.fullmatch("CALL ME maybe")
    assert not fits.fullmatch("calls me maybe")
    assert not fits.fullmatch("call mercy maybe")


def test_ideographs_need_no_spaces() -> None:
    found = pattern(parse("[等]{condition}(告诉|提醒)我")).fullmatch("等水满了提醒我")
    assert found
    assert found["condition_0"] == "水满了"


def test_slots_are_counted_in_order() -> None:
    assert slots(parse("{a} [x {b}|{a}]")) == ("a", "b", "a")


@pytest.mark.parametrize(
    "template", ["(a", "a)", "[a", "a]", "(a]", "[a)", "{a", "a}", "<a", "<a>", "(" * 30 + ")" * 30]
)
def test_a_template_that_does_not_pair_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"lacks|without|lone|expected|names|more than"):
        parse(template)


@given(st.text(alphabet="ab ()[]{}<>|", max_size=40))
def test_any_text_is_a_template_or_a_clear_error(template: str) -> None:
    try:
        node = parse(template)
    except ValueError:
        return
    assert set(slots(node)) <= {piece.strip() for piece in template.replace("{", "}").split("}")}
