"""Questions in files: the data sets of the field, conversations and tables, and their splits."""
