"""The closed forms, one subject per file; `theory.catalogue()` gathers them."""
