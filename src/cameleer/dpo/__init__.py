"""Preference tuning: pairs of answers and a model in, a model out that prefers what was chosen."""
