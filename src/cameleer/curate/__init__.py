"""Curation: files, hub datasets and generators in, a mixture of training conversations out. Imports no torch."""
