"""Inference: predictions for questions, from a model on this machine or behind an endpoint."""
