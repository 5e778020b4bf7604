from boot.conftest import tree_of

__all__ = ["tree_of"]
