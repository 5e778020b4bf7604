"""Lets out what the armed lock allows for a while or under a condition: an endpoint's new address."""
