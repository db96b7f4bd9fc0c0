"""Models: loading and saving, attention over segments, the loss head, generation."""
