"""Typed verdicts on responses. Imports no torch."""

from cameleer.verify.verdict import Outcome, Verdict
from cameleer.verify.verifiers import VERIFIERS, verify

__all__ = ["VERIFIERS", "Outcome", "Verdict", "verify"]
