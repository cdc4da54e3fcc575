"""One module per revision. A published revision never changes; whatever is to be different comes in the next one."""
