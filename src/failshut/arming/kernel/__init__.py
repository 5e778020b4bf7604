"""What the kernel holds while the lock goes on and off: the rules loaded, read back and compared, and the routing."""
