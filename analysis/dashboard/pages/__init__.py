"""The pages: each takes a :class:`~analysis.dashboard.context.Context` and returns a response."""
