"""Plan, arm, read back, disarm, drift: the lock's way into and out of the kernel."""
