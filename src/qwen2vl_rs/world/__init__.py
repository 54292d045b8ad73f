"""Worlds that ask questions: drawn scenes with exact truth, or vectors over a real image."""
