"""`python -m attpc_ioc.cli` is `attpc-ioc`."""

from attpc_ioc.cli import main

main()
