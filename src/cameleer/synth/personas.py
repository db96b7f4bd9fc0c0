"""The people for whom prompts are written: of a file, of a hub dataset, or put together from attributes.

Tülu 3 takes some 250,000 of PersonaHub (technical report, §3.1.2). What is put together here needs no network: an
occupation, a place, an interest and a circumstance, drawn by the seed; 2.5 million combinations, none twice.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.hub import open_split
from cameleer.core.parquet import is_parquet, parquet_rows
from cameleer.synth.config import PersonasConfig

COLUMN = "persona"

OCCUPATIONS = (
    "accountant", "actor", "archaeologist", "architect", "baker", "bank clerk", "beekeeper", "biologist",
    "bookbinder", "bus driver", "butcher", "carpenter", "cartographer", "chemist", "choir conductor",
    "civil engineer", "cleaner", "coach", "cook", "court interpreter", "data analyst", "dentist", "ecologist",
    "electrician", "farmer", "ferry captain", "firefighter", "fisher", "florist", "forester", "gardener",
    "geologist", "glassblower", "hairdresser", "hotel manager", "insurance agent", "journalist",
    "kindergarten teacher", "landscape designer", "lawyer", "librarian", "locksmith", "mail carrier", "mechanic",
    "midwife", "museum guide", "nurse", "nutritionist", "optician", "painter", "pharmacist", "philosopher",
    "photographer", "physicist", "physiotherapist", "pilot", "piano tuner", "plumber", "potter", "programmer",
    "psychologist", "radio host", "roofer", "sailor", "seamstress", "shepherd", "shopkeeper", "social worker",
    "sociologist", "statistician", "surveyor", "tailor", "translator", "tour guide", "train conductor",
    "urban planner", "veterinarian", "violinist", "watchmaker", "welder",
)  # fmt: skip
PLACES = (
    "in a mountain village", "in a harbor town", "in a large capital", "on a small island", "in a suburb",
    "by a lake", "in a university town", "near the border", "in a mining town", "on the plains", "in a desert city",
    "in a river port", "in the far north", "in the tropics", "in an old industrial city", "in a wine region",
    "in a market town", "in a new housing estate", "at the edge of a forest", "in a seaside resort",
)  # fmt: skip
INTERESTS = (
    "amateur astronomy", "bird watching", "board games", "chess", "choral singing", "collecting maps",
    "crossword puzzles", "cycling tours", "dancing", "detective novels", "family history", "football",
    "growing vegetables", "hiking", "home brewing", "ice skating", "jazz", "knitting", "learning languages",
    "local politics", "long-distance running", "model railways", "mushroom hunting", "old coins", "origami",
    "painting watercolors", "photography", "poetry", "podcasts about economics", "pottery", "public speaking",
    "rowing", "saving energy", "silent films", "swimming", "travel by train", "volunteering", "weather records",
    "woodworking", "yoga",
)  # fmt: skip
CIRCUMSTANCES = (
    "is new to the trade", "has worked there for thirty years", "is about to retire",
    "runs a business of two people", "teaches apprentices", "works night shifts", "is raising twins",
    "lives with aging parents", "is saving for a house", "is preparing for an examination", "leads a team of twelve",
    "came from abroad a year ago", "has moved house again", "has lost most of their hearing",
    "writes a weekly column", "organizes a yearly fair", "has a very old car", "is planning a long journey",
    "is recovering from an injury", "keeps accounts for a club", "has four siblings", "has just changed careers",
    "looks after an allotment", "coaches a youth team", "is restoring an old boat", "wants to cut their costs",
    "lives without a phone", "works from home", "shares a workshop with friends", "has an exchange student at home",
    "sits on the town council", "has won a small prize", "is learning to code", "sells at the weekly market",
    "has a tight deadline", "often gives talks", "sorts an inheritance", "is getting married in spring",
    "has a large dog",
)  # fmt: skip


def personas(config: PersonasConfig, path: Path | None, seed: str) -> Iterator[str]:
    """Distinct personas in an order that the seed decides; without an origin they hardly end. `path` is a file's.

    Raises UserError for an origin that cannot be read or holds none.
    """
    if path is None and config.dataset is None:
        yield from _put_together(random.Random(f"{seed}/personas"))
        return
    where = f"personas ({path or config.dataset})"
    found = list(dict.fromkeys(_of_file(path, where) if path is not None else _of_dataset(config, where)))
    if not found:
        raise UserError(f"{where}: it holds no persona.", f"One a line, or rows with a column '{COLUMN}'.")
    random.Random(f"{seed}/personas").shuffle(found)
    yield from found


def _put_together(rng: random.Random) -> Iterator[str]:
    seen: set[str] = set()
    while True:
        occupation, place, interest, circumstance = map(rng.choice, (OCCUPATIONS, PLACES, INTERESTS, CIRCUMSTANCES))
        article = "An" if occupation[0] in "aeiou" else "A"
        persona = f"{article} {occupation} {place} who {circumstance} and cares for {interest}"
        if persona not in seen:
            seen.add(persona)
            yield persona


def _of_file(path: Path, where: str) -> Iterator[str]:
    if is_parquet(path):
        yield from (_persona(row, where) for row in parquet_rows(path, where))
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _of_line(line.strip(), f"{where}: line {number}")


def _of_line(line: str, where: str) -> str:
    """A line of JSON with the column, or the persona itself."""
    if not line.startswith("{"):
        return line
    try:
        return _persona(json.loads(line), where)
    except ValueError:
        raise UserError(f"{where}: begins like a JSON object and is none.") from None


def _persona(row: dict[str, Any], where: str) -> str:
    persona = row.get(COLUMN)
    if not isinstance(persona, str) or not persona.strip():
        raise UserError(f"{where}: a row without a text in the column '{COLUMN}'. Columns: {', '.join(row)}.")
    return persona.strip()


def _of_dataset(config: PersonasConfig, where: str) -> Iterator[str]:
    assert config.dataset is not None
    rows = open_split(where, config.dataset, config.split, config.revision).rows
    return (_persona(row, where) for row in rows)
