"""The way of the data, one module a stage."""
