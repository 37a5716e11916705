"""Wire formats and routes; imports no ray and no engine."""
