"""What the demo puts in and asks: six weeks of a bicycle hire's support channel, and the staff handbook."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Final

from memsidecar.client import Event, NewDocument, NewTurn, Role, Speaker, TimeRange

AGENT_ID: Final = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071"
USER_ID: Final = "U07DANA"
"""Whose memory it is: Dana's assistant sits in the channel and remembers for her."""

CHANNEL: Final = "slack:T05FERN/C07SUPPORT"

_DANA = Speaker("U07DANA", "Dana Whitfield")
_TOMAS = Speaker("U07TOMAS", "Tomás Rey")
_PRIYA = Speaker("U07PRIYA", "Priya Nair")
_QUILL = Speaker("B07QUILL", "Quill")

_SAID: Final = (
    ("2025-09-01 08:12", "tyres", _TOMAS, "Third flat on the new city bikes this week. The rims cut the tubes."),
    ("2025-09-01 08:15", "tyres", _DANA, "Which batch? If it is all of them I am sending the lot back."),
    ("2025-09-01 08:21", "tyres", _TOMAS, "Only the twenty with the silver hubs, numbers 140 to 159."),
    ("2025-09-01 08:22", "tyres", _QUILL, "Noted: bikes 140 to 159 have rims that cut tubes. I will bring it up again."),
    ("2025-09-03 12:40", "lunch", _PRIYA, "Ordering from the harbour place on Friday. Anything anybody can't have?"),
    ("2025-09-03 12:44", "lunch", _DANA, "No prawns or crab for me please, my throat swells up."),
    ("2025-09-03 12:45", "lunch", _TOMAS, "I eat everything that holds still."),
    ("2025-09-08 09:05", "gate", _DANA, "The code of the yard gate changes tonight. From tomorrow ask me, never write it here."),
    ("2025-09-08 09:07", "gate", _TOMAS, "Good. The old one was on a sticky note by the kettle."),
    ("2025-09-11 16:30", "refund", _PRIYA, "A family of five waited an hour for us to open and wants their money back."),
    ("2025-09-11 16:37", "refund", _DANA, "Give them all of it, and a free day. It was our mistake: the rota had nobody on it."),
    ("2025-09-11 16:38", "refund", _PRIYA, "Done. They said they will come back in spring."),
    ("2025-09-15 10:02", "insurer", _DANA, "The insurer now wants a photo of every damaged bike before we touch it."),
    ("2025-09-15 10:10", "insurer", _TOMAS, "Even for a bent mudguard?"),
    ("2025-09-15 10:12", "insurer", _DANA, "Even for a scratch. They turned down 900 last month because we had straightened a fork."),
    ("2025-09-19 18:55", "battery", _TOMAS, "Bike 77 smells of burnt plastic when it charges. I took the battery out to the sand bucket."),
    ("2025-09-19 18:58", "battery", _DANA, "Leave it outside overnight and do not ride that one until the shop has looked at it."),
    ("2025-09-19 19:01", "battery", _QUILL, "Bike 77 is out of service since today because of its battery."),
    ("2025-09-24 11:20", "school", _PRIYA, "St Brannoc's school asks for 28 bikes on 9 October, half of them small frames."),
    ("2025-09-24 11:31", "school", _DANA, "Say yes. We have 15 small ones, and I can borrow more from Kestrel Bikes."),
    ("2025-09-24 11:33", "school", _PRIYA, "Told them. Their contact is Mr Okafor, he prefers the phone to mail."),
    ("2025-09-30 07:48", "alarm", _TOMAS, "The alarm went off at three again. A fox this time."),
    ("2025-09-30 07:55", "alarm", _DANA, "At night ring Halima from the security company first, 20 minutes away. I am an hour away."),
    ("2025-10-02 13:15", "battery", _TOMAS, "The shop says a cell in 77 had split. They swap it under warranty, back on the 14th."),
    ("2025-10-02 13:19", "battery", _DANA, "Then it stays off the list until you have charged it twice yourself."),
    ("2025-10-06 15:02", "refund", _PRIYA, "A rider came back at noon because of the rain and asks for half the price."),
    ("2025-10-06 15:09", "refund", _DANA, "Rain is not on us. Offer a voucher for half a day, no cash, from now on always like that."),
    ("2025-10-09 17:40", "school", _PRIYA, "The school was delighted. Two small helmets are missing, I will call Mr Okafor."),
    ("2025-10-13 09:30", "winter", _DANA, "We close from 3 November to 1 March. Tomás, you get the workshop to yourself."),
    ("2025-10-13 09:34", "winter", _TOMAS, "Finally. I will strip the silver hubs and put proper rim tape in."),
    ("2025-10-13 09:36", "winter", _QUILL, "Noted: closed 3 November to 1 March; Tomás retapes bikes 140 to 159 meanwhile."),
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the conversation."""

    text: str
    occurred: TimeRange | None = None
    """Only what was said in this span."""


QUESTIONS: Final = (
    Question("What food is Dana allergic to?"),
    Question("Somebody broke in after midnight, who do I phone?"),
    Question("Why is bike 77 not available?"),
    Question("Who is our contact at the school, and how do we reach him?"),
    Question("How do we compensate customers who complain?"),
    Question(
        "How do we compensate customers who complain?",
        TimeRange(datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)),
    ),
)

DOCUMENT_QUESTION: Final = "How long is CCTV footage kept?"


def turns() -> list[NewTurn]:
    """Give the conversation as a bot in the channel would send it, each turn with the channel's own event id."""
    return [
        NewTurn(
            agent_id=AGENT_ID,
            user_id=USER_ID,
            conversation_id=f"{CHANNEL}/{thread}",
            role=Role.ASSISTANT if speaker is _QUILL else Role.USER,
            speaker=speaker,
            content=content,
            occurred_at=datetime.strptime(moment, "%Y-%m-%d %H:%M").replace(tzinfo=UTC),
            event=Event(CHANNEL, f"Ev{number:04}"),
        )
        for number, (moment, thread, speaker, content) in enumerate(_SAID, start=1)
    ]


def handbook() -> NewDocument:
    """Give the handbook as a file that everybody may search."""
    content = resources.files("memsidecar.cli.demo").joinpath("handbook.md").read_bytes()
    return NewDocument(document_key="handbook.md", content=content, is_global=True)
