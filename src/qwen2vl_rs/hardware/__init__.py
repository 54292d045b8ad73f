"""What computes: devices, number formats, launchers."""
