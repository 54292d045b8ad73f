"""What counts as right: normal forms, protocols, statistics, controls (pure Python and NumPy)."""
