"""Text → Policy: the policy file and the tunnels' own configs, with every mistake found at once. Pure: it is handed text."""
