"""The simulated venue behind the asynchronous ports."""
