"""Synthesis: prompts written for made-up people, answers to them, and a check of each answer."""
