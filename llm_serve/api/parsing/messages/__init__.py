"""From a Messages request to our chat job.

- `parse`: the two routes, and what cannot be combined.
- `edits`: what of the conversation and of the tools the model is shown.
- `conversation`: turns and blocks in the words of chat templates.
"""
