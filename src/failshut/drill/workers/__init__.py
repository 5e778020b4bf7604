"""A process in namespaces of its own, in which labs are built: as its parent sees it, and what it does there."""
