"""A test of a user interface from a screenshot: what is on it, what is done, what is expected, the code for that."""
