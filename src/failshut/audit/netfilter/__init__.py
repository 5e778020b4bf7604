"""What netfilter does with a packet, as far as both evaluators must know: numbers, fields, the order of chains, translation."""
