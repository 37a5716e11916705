"""Anthropic's Messages: what `/v1/messages` and its `count_tokens` are sent, and what they answer.

What has no effect here is accepted: `metadata`, `cache_control` (prompts are cached anyhow), who
pays. What asks for something that cannot be done is refused by name, and so is a block, a tool or
an edit of a kind that is not read here, since its content would be lost. An unknown member is
refused too; but a client that announces features with the header `anthropic-beta`, as Claude Code
does, may be newer than this server, so its unknown members are dropped.
"""
