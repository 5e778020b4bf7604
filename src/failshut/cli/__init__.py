"""The command line: one file a verb. Renders and exits; decides nothing."""
