"""What the Python applications in this directory share."""

import sys
import threading
import time
import traceback


def expect(got, wanted):
    if got != wanted:
        sys.exit(f"line {sys._getframe(1).f_lineno}: expected {wanted!r}, got {got!r}")


def refused(error, action, *arguments, **options):
    """Expects an action to raise an error of this kind."""
    try:
        got = action(*arguments, **options)
    except error:
        return
    sys.exit(f"line {sys._getframe(1).f_lineno}: expected {error.__name__}, got {got!r}")


def eventually(action, wanted, seconds=10):
    """Repeats a question until its answer is as wanted."""
    end = time.monotonic() + seconds
    while (got := action()) != wanted:
        if time.monotonic() > end:
            sys.exit(f"line {sys._getframe(1).f_lineno}: expected {wanted!r}, still got {got!r}")
        time.sleep(0.005)


def side_by_side(threads, work):
    """Does the work in several threads; an error in one of them ends the program."""
    errors = []

    def one():
        try:
            work()
        except BaseException:
            errors.append(traceback.format_exc())

    running = [threading.Thread(target=one, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        sys.exit(errors[0])
