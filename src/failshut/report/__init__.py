"""Values → one self-contained page, for whoever would rather look than read. Every string of a policy or a ruleset is escaped."""
