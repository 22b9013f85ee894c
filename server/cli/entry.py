"""The console script: Ctrl+C ends it without a word from its first moment on."""

import signal


def main() -> None:
    """Load the commands, which takes a moment, and run the one that is asked for."""
    # A shell that starts it in the background has it ignore Ctrl+C, and so it stays.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from server.cli import commands

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    commands.main()
