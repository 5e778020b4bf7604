"""Plan, arm, confirm or undo, disarm: the lock's way into and out of the kernel.

What is done is here; `armed` is what is there, `boot` what the next boot loads, `kernel` the rules and routes that the kernel
holds, `backends` what differs by tool.
"""
