"""What a comparison with recorded sessions found, as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from omni_watch.cli.shown import table

MEANINGS: Final[Mapping[str, str]] = {
    "pixels": "pictures, scaled and normalised",
    "vpm": "vision tower",
    "resampler": "picture vectors",
    "mel": "mel frames",
    "apm": "sound encoder",
    "audio_embeds": "sound vectors",
    "position_rows": "positions of picture vectors",
    "logits": "language model: logits",
    "hidden": "language model: hidden states",
    "cache": "language model: memory",
    "rotated_keys": "language model: keys that moved",
    "tts_cond": "speech decoder: condition",
    "tts_scores": "speech decoder: probabilities",
    "decode_probs": "choice of tokens: probabilities",
}
LONGEST: Final = 60  # characters shown of a value


def deviations(document: Mapping[str, Any]) -> Table:
    """The largest deviation of each quantity, and whether it is small enough."""
    made = table("quantity", "largest", "limit", "tensors", "worst in", "")
    for row in document["quantities"]:
        if not row["compared"]:
            made.add_row(_meaning(row), "", f"{row['limit']:g}", "0", "", "[dim]not recorded[/]")
            continue
        largest = "no number" if row["largest"] is None else f"{row['largest']:.2g}"
        sign = "[green]holds[/]" if row["holds"] else "[red]fails[/]"
        made.add_row(_meaning(row), largest, f"{row['limit']:g}", str(row["compared"]), escape(row["where"]), sign)
    return made


def mismatches(document: Mapping[str, Any]) -> Iterator[Table | str]:
    """What came out as another integer or text, the first ones."""
    if not document["mismatches"]:
        return
    made = table("session", "unit", "quantity", "recorded", "found")
    for row in document["mismatches"]:
        unit = "" if row["unit"] is None else str(row["unit"])
        made.add_row(
            escape(row["session"]), unit, escape(row["quantity"]), _short(row["expected"]), _short(row["found"])
        )
    yield made
    hidden = document["integers"]["wrong"] - len(document["mismatches"])
    if hidden > 0:
        yield f"and {hidden} more"


def parity_verdict(document: Mapping[str, Any]) -> Iterator[str]:
    integers, decisions = document["integers"], document["decisions"]
    if integers["wrong"]:
        judged = "" if integers["judged"] else "; not judged in this precision"
        yield f"{integers['wrong']} of {integers['compared']} integers, texts and decisions differ{judged}."
    else:
        yield f"All {integers['compared']} integers, texts and decisions are the recorded ones."
    if decisions["imposed"]:
        yield (
            f"The recorded decisions were imposed; {decisions['otherwise']} of {decisions['imposed']} "
            f"would have been others in {document['dtype']}."
        )
    if document["arithmetic"] == "COMPATIBLE":
        yield "Compared in the arithmetic that all processors share; this one's own rounds differently."
    yield "[green]The model is the recorded one.[/]" if document["ok"] else "[red]The model is not the recorded one.[/]"


def _meaning(row: Mapping[str, Any]) -> str:
    return MEANINGS.get(row["name"], escape(row["name"]))


def _short(value: Any) -> str:
    text = repr(value)
    return escape(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")
