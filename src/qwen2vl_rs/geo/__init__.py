"""Large scenes: questions asked of window after window."""
