"""Operating system services: files, disks, locks, streams, messages and the terminal."""
