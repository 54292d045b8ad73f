"""What goes in: RSVQA files, tables, splits."""
