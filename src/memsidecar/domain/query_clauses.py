r"""Takes what is *not* wanted out of a question: "parental leave, excluding part-time staff".

Neither a vector nor a bag of words knows "not": both find the more of what a question rules out, the more words it
spends on it. So a clause that rules something out is left out of what is searched with. It hides nothing: a passage
that speaks of both is still found.

A clause is taken only where it hangs on something that is wanted: an exception ("apart from X", "but not X"), or an
order to the reader at the start of a sentence or after a comma ("do not mention X", "leave out X"). What is asked about
stays whole: "How do I exclude a folder?", "login without a password", "Which tests do not cover X?".
English only; a question in another language stays as it is.
"""

from __future__ import annotations

import re

_TOPIC_VERB = r"(?:mention|refer|discuss|consider|describ|includ|touch|focus|cover|talk|address)\w*"
_BEFORE_EXCEPTION = r"(?:[(,.;!?]\s*|(?<!\bis\s)(?<!\bare\s)(?<!\bbe\s)\b)(?:(?:but|and)\s+)?"
_BEFORE_ORDER = r"(?:(?:^|[(,.;!?])\s*(?:(?:but|and)\s+)?|\b(?:but|and)\s+)(?:please\s+)?"
_EXCEPTION = (
    r"(?:excluding|except\s+for|apart\s+from|aside\s+from|but\s+not(?!\s+only\b)"
    r"|not\s+(?:including|counting|mentioning|considering)"
    r"|without\s+(?:any\s+)?(?:mention|reference|discussion)(?:\s+(?:of|to))?"
    r"|without\s+(?:mention|referenc|referr|discuss|consider|includ|cover|focus|touch)ing(?:\s+(?:to|on))?)"
)
_ORDER = (
    r"(?:(?:do\s+not|don['\u2019]t|never)\s+" + _TOPIC_VERB + r"|exclude|omit|ignore|leave\s+out"
    r"|avoid(?:ing)?(?:\s+(?:any\s+)?(?:mention(?:ing|s)?|references?|discuss(?:ion|ing))(?:\s+(?:of|to))?)?)"
)
_UNWANTED = r"\b\s+(?:[^()?!.;,]|[.](?=\S))+"
_CLAUSE = re.compile(
    rf"(?:{_BEFORE_EXCEPTION}\b{_EXCEPTION}|(?<=[(,])\s*except|{_BEFORE_ORDER}\b{_ORDER}){_UNWANTED}",
    re.IGNORECASE,
)
_HOLLOW = re.compile(r"\(\s*\)|(?<=\s)\)")
_LOOSE_PUNCTUATION = re.compile(r"\s+(?=[.?!,;])|[,;]\s*(?=[.?!,;]|$)")
_WORDS_LEFT = re.compile(r"[^\W\d_]{3,}.*[\W\d_][^\W\d_]{3,}", re.DOTALL)


def wanted_part(query: str) -> str:
    """Give a question without the clauses that rule something out; all of it when hardly anything would be left."""
    rest, taken = _CLAUSE.subn(" ", query)
    if not taken:
        return query
    wanted = " ".join(_LOOSE_PUNCTUATION.sub("", _HOLLOW.sub(" ", rest)).split())
    return wanted if _WORDS_LEFT.search(wanted) else query
