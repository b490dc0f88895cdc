"""The shell command `attpc-ioc`: nothing else in the program parses arguments or prints for people.

`program` puts the commands together; `streams` is also for the commands of plugins.
"""


def main() -> None:
    """Run the shell command `attpc-ioc` with the arguments of this process."""
    # Imported here: a plugin's command imports `streams`, and not all the commands with it.
    from attpc_ioc.cli.program import run_program

    run_program()
