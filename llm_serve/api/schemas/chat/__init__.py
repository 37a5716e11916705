"""The parts of a chat: its turns, the tools that the model may call, the form of the answer."""
