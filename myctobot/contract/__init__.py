"""Names and shapes on the wire between the control plane and its shards; each side checks what the other sends."""
