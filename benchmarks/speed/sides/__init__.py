"""How each library is asked for the same work; a module here needs that library alone."""
