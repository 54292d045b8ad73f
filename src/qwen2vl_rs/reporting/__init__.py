"""Reports, cards and map pages: HTML, Markdown, terminal tables. Does not need torch."""
