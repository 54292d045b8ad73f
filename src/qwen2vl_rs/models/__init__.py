"""Base models, checkpoints and adapters: find, check, load, merge."""
