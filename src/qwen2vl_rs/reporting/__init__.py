"""What people look at: HTML, Markdown, cards and maps. Needs no torch."""
