"""What people look at: text, and later HTML and cards. Needs no torch."""
