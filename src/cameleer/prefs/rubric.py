"""What a judge is shown, and how its reply is read: strictly, since a reply misread is worse than one that is missing.

Two kinds of question. Of all answers at once, one aspect, after UltraFeedback (Cui et al. 2023) in words of our own:

    Answer 1                                    a rating from 1 to 5 for each answer, in the order shown
    Rationale: one line
    Rating: 4

Of two answers, which is better:

    Rationale: one line
    Better: 1                                   or 2, or tie: a rating of 1 and 0, 0 and 1, or ½ each

The whole reply must be this, white space around lines apart. Departures from Tülu 3: its parser takes 1 for a block
that it cannot read and averages an honesty of "N/A" as −1; here every aspect is rated for every answer, and a reply
that cannot be read is asked for again, then missing.
"""

import re
from collections.abc import Sequence

from cameleer.core.types import Conversation, Message
from cameleer.prefs.config import Aspect

SYSTEM = (
    "You grade answers of AI assistants. Judge only what is asked of you. The order in which answers are shown, their "
    "length and the confidence of their tone earn and cost nothing by themselves."
)
DEFINITIONS: dict[Aspect, tuple[str, tuple[str, ...]]] = {
    "helpfulness": (
        "how much the answer serves the person who asked: whether it is correct where that can be checked, complete, "
        "clear and to the point",
        (
            "useless or harmful to the purpose: wrong, off the topic or incomprehensible",
            "of little use: serious errors, or most of what is needed is absent",
            "of some use: the main point is there, with gaps, errors or much that is beside the point",
            "useful: correct and nearly complete, with small weaknesses",
            "as useful as could be wished: correct, complete, clear, and nothing in it is superfluous",
        ),
    ),
    "instruction_following": (
        "whether the answer does what was asked, in the form that was asked for, within every stated limit",
        (
            "ignores what was asked",
            "does a small part of it, or breaks most of the stated limits",
            "does the main thing and misses or breaks some of the demands",
            "does nearly all of it; one small demand is missed",
            "does all of it and keeps every limit",
        ),
    ),
    "honesty": (
        "whether the answer's confidence fits what it knows: it is sure where it is right, says so where it is unsure "
        "or cannot know, and claims no experience or ability that an AI lacks",
        (
            "confidently wrong, or pretends to be or to know what it is not or cannot",
            "often surer than its content allows, or unsure of what it plainly gets right",
            "a mixture: some well-placed doubt, some misplaced confidence",
            "mostly well placed, with a small misfit",
            "confidence and doubt are placed exactly where they belong",
        ),
    ),
    "truthfulness": (
        "whether what the answer states is true and supported: it invents nothing, and contradicts neither the facts, "
        "nor the conversation, nor itself",
        (
            "mostly false, invented or self-contradictory",
            "several false or invented statements that matter",
            "some false or unsupported statements beside true ones",
            "true but for a detail that matters little",
            "everything in it is true and supported",
        ),
    ),
}
AGAIN = "Your reply does not have the form that was asked for. Reply again, with nothing but these lines:\n\n{}"

_VERDICTS = {"1": (1.0, 0.0), "2": (0.0, 1.0), "tie": (0.5, 0.5)}
_BETTER = re.compile(r"Rationale:[ \t]+\S[^\n]*\n\s*Better: (1|2|tie)")


def rating_messages(prompt: Conversation, answers: Sequence[str], aspect: Aspect) -> Conversation:
    """The question of one aspect about all answers."""
    definition, levels = DEFINITIONS[aspect]
    scale = "\n".join(f"{number}: {words}" for number, words in enumerate(levels, 1))
    return _asked(
        f"Rate each of the {len(answers)} answers below for its {aspect.replace('_', ' ')}: {definition}.\n\n{scale}",
        prompt,
        answers,
        f"Reply with these lines for the {len(answers)} answers in the order shown, and nothing else:\n\n"
        + rating_form(len(answers)),
    )


def rating_form(count: int) -> str:
    """The form of a reply about so many answers."""
    blocks = (
        f"Answer {number}\nRationale: one or two sentences on one line\nRating: a whole number from 1 to 5"
        for number in range(1, count + 1)
    )
    return "\n\n".join(blocks)


COMPARISON_FORM = "Rationale: one or two sentences on one line\nBetter: 1, 2 or tie"


def comparison_messages(prompt: Conversation, answers: Sequence[str]) -> Conversation:
    """The question which of two answers is better."""
    return _asked(
        "Say which of the two answers below serves the person who asked better: does what was asked, is correct, "
        "honest, complete and clear. Say tie where neither is better.",
        prompt,
        answers,
        f"Reply with these lines and nothing else:\n\n{COMPARISON_FORM}",
    )


def _asked(task: str, prompt: Conversation, answers: Sequence[str], form: str) -> Conversation:
    turns = "\n\n".join(f"<{message.role}>\n{message.content}\n</{message.role}>" for message in prompt)
    shown = "\n\n".join(f"<answer {number}>\n{answer}\n</answer {number}>" for number, answer in enumerate(answers, 1))
    parts = (task, f"The conversation that is answered:\n\n{turns}", f"The answers:\n\n{shown}", form)
    return (Message("system", SYSTEM), Message("user", "\n\n".join(parts)))


def read_ratings(reply: str, count: int) -> tuple[float, ...] | None:
    """The ratings of so many answers; None for a reply in any other form."""
    blocks = (
        rf"Answer {number}[ \t]*\n\s*Rationale:[ \t]+\S[^\n]*\n\s*Rating: ([1-5])[ \t]*"
        for number in range(1, count + 1)
    )
    found = re.fullmatch(r"\n\s*".join(blocks), reply.strip())
    return None if found is None else tuple(map(float, found.groups()))


def read_comparison(reply: str) -> tuple[float, ...] | None:
    """What each of two answers won; None for a reply in any other form."""
    found = _BETTER.fullmatch(reply.strip())
    return None if found is None else _VERDICTS[found[1]]
