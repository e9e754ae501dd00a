"""What measurements say: couplings, groupings, and how sure one can be of them."""
