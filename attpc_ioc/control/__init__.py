"""Controller, plans and their execution, run control."""
