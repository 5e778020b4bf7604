"""A captive portal: found by a probe of our own, signed in to by one browser, while the rest of the machine stays dark."""
