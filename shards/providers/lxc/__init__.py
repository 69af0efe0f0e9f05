"""Provider for LXC on the control plane's host."""
