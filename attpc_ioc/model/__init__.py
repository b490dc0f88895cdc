"""Pure values: states, operations, transition table, configs, plans, events, run. No I/O."""
