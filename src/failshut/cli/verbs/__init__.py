"""One file a verb, imported only when it is called for."""
