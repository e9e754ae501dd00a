"""A whole run from a configuration to a report, in stages that can be resumed."""
