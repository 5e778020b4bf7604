"""The live view: what `status` and `watch` know, on one screen, with keys to act; and the same as lines of text."""
