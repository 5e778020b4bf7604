"""What stands on disk so that the lock is on before the network and stays: the loader, units, drop-ins. Text only.

The files are written as they are, in their own languages, so that shellcheck and `systemd-analyze verify` read what will run. All
of it is plain sh, nft and systemd: a broken Python, a missing package or a full /var can't keep the lock off.
"""
