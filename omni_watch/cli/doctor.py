"""`omni-watch doctor`: what works, what does not, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.markup import escape
from rich.table import Table

from omni_watch.app.doctor import Finding
from omni_watch.cli.shell import Shell, pass_shell
from omni_watch.cli.shown import table

SIGNS = {True: "[green]works[/]", False: "[red]fails[/]", None: "[dim]not used[/]"}


@click.command(short_help="See what works, what fails, and what to do.")
@click.option("--quick", "is_quick", is_flag=True, help="Only what takes no time: nothing is opened, no model is read.")
@click.pass_context
@pass_shell
def doctor(shell: Shell, context: click.Context, is_quick: bool) -> None:
    """Check cameras, microphone, speaker, broker, models, disk, clock, database and service: what works, what to do.

    \b
    omni-watch doctor
    omni-watch doctor --quick --json

    The exit code is 1 when something that the configuration needs does not work.
    """
    findings = shell.application.diagnose(shell.settings(), is_quick=is_quick)
    is_well = all(finding.ok is not False for finding in findings)
    failed = sum(finding.ok is False for finding in findings)
    verdict = "[green]Everything that is needed works.[/]" if is_well else f"[red]{failed} to mend.[/]"
    shell.say({"ok": is_well, "findings": [_document(finding) for finding in findings]}, _table(findings), verdict)
    if not is_well:
        context.exit(1)


def _document(finding: Finding) -> dict[str, str | bool | None]:
    return {"area": finding.area, "ok": finding.ok, "what": finding.what, "do": finding.do}


def _table(findings: Sequence[Finding]) -> Table:
    made = table("", "", "")
    made.show_header = False
    for finding in findings:
        advice = f"\n[yellow]{escape(finding.do)}[/]" if finding.do else ""
        made.add_row(SIGNS[finding.ok], finding.area, escape(finding.what) + advice)
    return made
