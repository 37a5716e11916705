"""The Ray side: the only code that imports ray."""

from deployments.ray_patches.grpc_port import keep_inner_ports_local

keep_inner_ports_local()
