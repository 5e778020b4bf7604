"""What is answered, and how it is said: proofs and witnesses, the rule at fault, and what became of witnesses that were sent."""
