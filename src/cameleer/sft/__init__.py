"""Supervised fine-tuning: a mixture of conversations and a base model in, a model out."""
