"""Somebody's script, run where it can harm nothing, for the rules that it makes."""
