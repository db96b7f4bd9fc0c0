"""Evaluation: what models answer, how it is judged, and how sure the numbers are."""
