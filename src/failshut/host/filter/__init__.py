"""The packet filter: what it is asked, and what is loaded into it."""
