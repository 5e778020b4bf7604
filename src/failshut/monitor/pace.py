"""How often the monitor looks."""

# In seconds: until the next look while all is well, and while it is not or something has just changed.
CALM, ANXIOUS = 30.0, 6.0
