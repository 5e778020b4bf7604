"""One rule of iptables → the model's statements: one subject a file."""
