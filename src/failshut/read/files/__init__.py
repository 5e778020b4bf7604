"""Files of rules, whatever people hand over: which format each is in, what of a script can be run, and several as one ruleset."""
