"""Preference synthesis: prompts answered by a pool of models, rated by judges, turned into pairs."""
