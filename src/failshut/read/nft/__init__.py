"""nft's two formats → the model: the text that people write and the kernel lists, and `nft -j`; beside them what both mean."""
