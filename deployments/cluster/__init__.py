"""What Ray and the kernel say of nodes: memory, GPUs, cores, how processes end."""
