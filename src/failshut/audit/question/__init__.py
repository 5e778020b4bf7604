"""What is asked: the packets in question, what it means that such a packet leaves, and how a witness should look."""
