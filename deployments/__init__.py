"""The Ray side: the only code that imports ray."""

from deployments.inner import keep_inner_ports_local

keep_inner_ports_local()
