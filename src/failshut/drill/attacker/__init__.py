"""What attacks send: crafted packets, one-shot senders as any user, floods."""
