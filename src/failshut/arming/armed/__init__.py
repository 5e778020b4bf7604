"""What is armed: its record on disk, its state as `status` says it, and whether anything that it was made of has changed."""
