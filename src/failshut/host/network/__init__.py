"""The machine's network: devices, routes, resolvers, and the kernel's word when one changes."""
