"""The audit's witnesses, sent: each packet in a lab that runs the ruleset as it was given, confirmed by a captured frame or not."""
