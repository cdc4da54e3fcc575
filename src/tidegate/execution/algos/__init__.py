"""One file per execution algorithm."""
