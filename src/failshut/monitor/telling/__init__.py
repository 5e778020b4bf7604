"""What is told, and to whom: files and the journal, a desktop's notices, the numbers for Prometheus, what was refused first."""
