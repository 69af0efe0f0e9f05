"""Provider for Proxmox VE."""
