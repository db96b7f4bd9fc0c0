"""Reinforcement learning with verifiable rewards: problems and a model in, a better model and all rollouts out."""
