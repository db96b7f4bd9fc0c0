"""Reward modelling: pairs and a model in, a model that scores answers out."""
