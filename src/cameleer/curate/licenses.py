"""What the licences of a mixture's sources say of the mixture as a whole, as far as their names tell it.

No legal advice: a first look that names what somebody must decide. Names are SPDX's and the hub's (cc-by-nc-4.0,
odc-by, apache-2.0, ...), in any case.
"""

import re
from collections import defaultdict
from collections.abc import Mapping

_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research[- ]only|academic")
_NO_DERIVATIVES = re.compile(r"\bnd\b|no-?deriv")
_SHARE_ALIKE = re.compile(r"\bsa\b|share-?alike|\ba?gpl|odbl|copyleft")
_SAYS_NOTHING = {"", "unknown", "other", "none"}


def conflicts(licenses: Mapping[str, str | None]) -> list[str]:
    """Sentences that name the sources whose licences do not go together. `licenses` go by source."""
    by_kind: defaultdict[str, list[str]] = defaultdict(list)
    share_alike: defaultdict[str, list[str]] = defaultdict(list)
    for source, license in licenses.items():
        name = (license or "").strip().lower()
        if name in _SAYS_NOTHING:
            continue
        shown = f"{source} ({license})"
        by_kind["non-commercial" if _NON_COMMERCIAL.search(name) else "commercial"].append(shown)
        if _NO_DERIVATIVES.search(name):
            by_kind["no-derivatives"].append(shown)
        if _SHARE_ALIKE.search(name):
            share_alike[re.sub(r"[\d.]+$", "", name).rstrip("-")].append(shown)
    return _sentences(by_kind, share_alike)


def _sentences(by_kind: Mapping[str, list[str]], share_alike: Mapping[str, list[str]]) -> list[str]:
    found: list[str] = []
    if by_kind.get("non-commercial") and by_kind.get("commercial"):
        found.append(
            f"Non-commercial and permissive: {', '.join(by_kind['non-commercial'])} make all of the mixture "
            f"non-commercial, where {', '.join(by_kind['commercial'])} would allow commercial use."
        )
    if len(share_alike) > 1:
        kinds = "; ".join(", ".join(sources) for sources in share_alike.values())
        found.append(f"Different share-alike licences, each of which asks for itself on the whole: {kinds}.")
    if by_kind.get("no-derivatives"):
        found.append(f"No derivatives: {', '.join(by_kind['no-derivatives'])} may not be shared changed or mixed.")
    return found
