"""Bases and adapters: found, checked, loaded, merged."""
