"""Devices, precision (dtype), launchers and random states."""
