"""The shell command `attpc-ioc`: the only place that parses arguments or prints for people.

`program` assembles the commands; plugins' commands use `streams` too.
"""


def main() -> None:
    """Run the shell command `attpc-ioc` with the arguments of this process."""
    # Imported here, so that a plugin's command can import `streams` without all other commands.
    from attpc_ioc.cli.program import run_program

    run_program()
