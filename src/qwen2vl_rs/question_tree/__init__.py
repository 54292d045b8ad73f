"""The question tree and attention over it. Knows no model."""
