"""The rules that a run tries, and what loads each: the compiled lock, the guide's, a user's own file beside them. Pure."""
