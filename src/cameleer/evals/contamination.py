"""What is known of a model's training data and a task: the certificates of decontamination along the model's line.

A model of a recipe names in its manifest what it was made from: a mixture, another model, pairs. Wherever that lies in
the same run folder and still is what the manifest says, its own manifest is read in turn, down to the mixtures, whose
certificates say what they were compared with. Of a model from elsewhere nothing is known, nor of data that was never
compared: problems, synthetic rows, unless a curation has taken them up, recorded pairs and recorded responses.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cameleer.core import artifact
from cameleer.core.artifact import Manifest
from cameleer.core.digest import digest_path
from cameleer.core.mixture import MIXTURE
from cameleer.tasks import Task
from cameleer.tasks.mirror import content_digest

DATA_ROLES = ("mixture", "problems", "pairs", "prompts")
"""The first words of the roles of inputs that are data."""


def overlap_with(model: Path, task: Task, num_items: int, seed: int) -> dict[str, Any] | None:
    """How many of a task's items overlap at most with the mixtures that a model was trained on, of how many compared.

    None where some data of its line was not compared with this version of the task and these items, or there is none.
    """
    mixtures = {each and each.key: each for each in _mixtures(model)}
    found = [each and _compared(each, task, num_items, seed) for each in mixtures.values()]
    known = [each for each in found if each is not None]
    if not known or len(known) < len(found):
        return None
    items = known[0]["items"]
    # Two mixtures may overlap with the same items or with others: at most so many together.
    return {"items": items, "overlapping": min(items, sum(each["left"] for each in known))}


def _mixtures(model: Path) -> Iterator[Manifest | None]:
    """The manifests of the curated mixtures in a model's line; None for data that was not compared with anything.

    That is what is absent, changed or not curated, and a curation's problems, which are no part of its mixture.
    """
    manifest = artifact.read_manifest(model)
    for role, each in manifest.inputs.items() if manifest is not None else ():
        folder = model.parent / each["name"]
        made = artifact.read_manifest(folder)
        if made is None:
            if role.partition(" ")[0] in DATA_ROLES:
                yield None
        elif made.kind == "curate":
            path = folder / MIXTURE.name
            yield made if path.is_file() and digest_path(path) == each["digest"] else None
        else:
            if _brings_its_own(made):
                yield None
            yield from _mixtures(folder)


def _brings_its_own(made: Manifest) -> bool:
    """Whether a stage that is no curation makes data of what no curation has seen."""
    if made.kind == "prefs":
        # Recorded pairs and files of recorded responses: of the inputs, those of the hub are none.
        return bool(made.config.get("sources")) or any(model.get("file") for model in made.config.get("models", ()))
    return made.kind == "synth"


def _compared(mixture: Manifest, task: Task, num_items: int, seed: int) -> Mapping[str, Any] | None:
    """What a mixture's certificate says of a task, if it is of this task and covers these items."""
    certificate = mixture.counts.get("decontamination", {})
    found = certificate.get("evaluations", {}).get(task.name)
    # Embeddings do not see a question that is copied into a longer turn.
    if found is None or found["version"] != task.version or certificate["measure"]["mode"] == "embedding":
        return None
    if task.datasets:
        same = found["datasets"] == {str(split): content_digest(split) for split in task.datasets}
    else:
        generated = found["generated"]
        same = generated["seed"] == seed and num_items <= generated["items"]
    return found if same else None
