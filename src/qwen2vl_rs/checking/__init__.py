"""Check questions and images before training: faults, leaks, what the text alone answers."""
