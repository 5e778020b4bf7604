"""All packets at once, as bit-vector formulas for z3. Over-approximates what it does not understand, so that "none" is a proof."""
