"""Arithmetic of training that every stage shares: layout, accumulation, optimizer, schedule, checkpoints, ranks."""
