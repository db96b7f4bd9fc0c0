"""Cameleer: the open post-training system."""
