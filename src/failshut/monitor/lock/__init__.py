"""Keeps the lock as it was armed: hears of changes, compares what nft lists, puts back, and holds devices that come."""
