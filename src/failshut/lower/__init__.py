"""Policy + HostFacts → Ruleset: what the user wants becomes what the kernel runs, one pass a file."""
