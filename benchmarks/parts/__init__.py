"""One file for each subject; each yields figures."""
