"""What came of a run: each captured frame explained or a leak, a scenario's verdict, and the sums. Pure."""
