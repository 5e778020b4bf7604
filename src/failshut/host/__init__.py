"""The only room with subprocess, sockets and files: everything that touches the machine, behind small functions."""
