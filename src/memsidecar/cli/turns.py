"""``memsidecar append`` and ``memsidecar recall``: one turn in, the right ones out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from memsidecar.cli.console import output_console, print_indented
from memsidecar.cli.servers import open_server, server_option
from memsidecar.client import Event, NewTurn, RecallMode, Role, Speaker, TimeRange, TurnScope

if TYPE_CHECKING:
    from uuid import UUID

    from rich.console import Console

    from memsidecar.client import RecallHit

MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.command()
@click.argument("content")
@click.option("--agent", required=True, type=click.UUID, help="The agent that remembers, a UUID.")
@click.option("--user", required=True, help="The user whose memory it is.")
@click.option("--conversation", required=True, help="The conversation it belongs to.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default="user",
    show_default=True,
    help="Who produced it.",
)
@click.option("--speaker", default="", help="Name of who said it.")
@click.option("--occurred-at", type=MOMENT, help="When it was said, in UTC. Default: now.")
@click.option(
    "--event", nargs=2, metavar="SOURCE ID", help="The channel's name for it: a repetition changes nothing."
)
@server_option
def append(
    *,
    content: str,
    agent: UUID,
    user: str,
    conversation: str,
    role: str,
    speaker: str,
    occurred_at: datetime | None,
    event: tuple[str, str] | None,
    server: str | None,
) -> None:
    """Store one turn and print its id.

    CONTENT is what was said; - reads it from standard input.
    """
    turn = NewTurn(
        agent_id=str(agent),
        user_id=user,
        conversation_id=conversation,
        role=Role(role),
        speaker=Speaker(display_name=speaker) if speaker else None,
        content=sys.stdin.read() if content == "-" else content,
        occurred_at=in_utc(occurred_at),
        event=Event(*event) if event else None,
    )
    with open_server(server) as client:
        appended = client.append(turn)
    click.echo(appended.turn_id)
    if appended.repeated:
        click.echo("It was stored before; nothing was added.", err=True)
    if appended.truncated:
        click.echo(f"Its {appended.token_count} word pieces were cut to 256 for its vector.", err=True)


@click.command()
@click.argument("query")
@click.option("--agent", type=click.UUID, help="Only what this agent remembers, a UUID.")
@click.option("--user", default="", help="Only this user's memory.")
@click.option(
    "--conversation", "conversations", multiple=True, help="Only this conversation; several times for more."
)
@click.option("--since", type=MOMENT, help="Only what was said from then on, in UTC.")
@click.option("--until", type=MOMENT, help="Only what was said before then, in UTC.")
@click.option("-k", "--top-k", type=click.IntRange(1, 200), default=10, show_default=True, help="How many.")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in RecallMode]),
    default="fused",
    show_default=True,
    help="How to find.",
)
@click.option(
    "--neighbours", type=click.IntRange(0, 10), default=0, help="Also show so many turns around each."
)
@click.option("--explain", is_flag=True, help="Show the parts of each score.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one hit a line.")
@server_option
def recall(
    *,
    query: str,
    agent: UUID | None,
    user: str,
    conversations: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    top_k: int,
    mode: str,
    neighbours: int,
    server: str | None,
    explain: bool,
    as_json: bool,
) -> None:
    """Find turns that matter for a question, best first.

    QUERY is the question, in natural language.
    """
    scope = TurnScope(
        agent_id="" if agent is None else str(agent),
        user_id=user,
        conversation_ids=conversations,
        occurred=TimeRange(in_utc(since), in_utc(until)) if since or until else None,
    )
    with open_server(server) as client:
        found = client.recall(
            query, scope, top_k=top_k, mode=RecallMode(mode), neighbours=neighbours, explain=explain
        )
    if as_json:
        for hit in found.hits:
            click.echo(json.dumps(asdict(hit), ensure_ascii=False, default=str))
        return
    console = output_console()
    for hit in found.hits:
        _show(console, hit)
    if not found.hits:
        click.echo("Nothing is stored there yet.", err=True)


def in_utc(moment: datetime | None) -> datetime | None:
    """Read a moment of the command line as UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def _show(console: Console, hit: RecallHit) -> None:
    turn = hit.turn
    speaker = turn.speaker.display_name or turn.speaker.speaker_id or str(turn.role)
    console.print(
        f"[green]{hit.score:.2f}[/]  [dim]{turn.occurred_at:%Y-%m-%d %H:%M}[/]  [cyan]{escape(speaker)}[/]"
        f"  [dim]{escape(turn.conversation_id)}[/]",
        soft_wrap=True,
    )
    before = [each for each in hit.context if each.occurred_at < turn.occurred_at]
    after = [each for each in hit.context if each.occurred_at >= turn.occurred_at]
    for each, style in [*((each, "dim") for each in before), (turn, ""), *((each, "dim") for each in after)]:
        print_indented(console, each.content, 6, style)
    if hit.parts:
        parts = "  ".join(f"{part.name} {part.raw:.2f} x {part.weight:g}" for part in hit.parts)
        console.print(f"      [dim]{parts}[/]", soft_wrap=True)
