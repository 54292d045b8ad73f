"""What the operating system gives: files, disks, locks, streams and the terminal."""
