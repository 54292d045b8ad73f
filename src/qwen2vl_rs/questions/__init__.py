"""Question types: wording, normal forms, classes, protocols."""
