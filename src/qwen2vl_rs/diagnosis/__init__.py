"""A report on this machine and on what a training would use: `doctor`."""
