"""The vocabulary: frozen data that every other package speaks. Imports nothing of ours, does no I/O."""
