"""Typed verdicts on responses. Imports no torch."""
