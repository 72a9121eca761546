"""How a command ends: its exit code, and the one line that says why."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from laketag.cli.printing import say
from laketag.cli.waiting import told_of_silence
from laketag.errors import Interrupted, LaketagError, WrongUsage

P = ParamSpec("P")
R = TypeVar("R")

FAILED = 1
WRONG_USAGE = 2
INCOMPLETE = 3


def leaving(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the ends that are no bug into exit codes: anything else stays a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with told_of_silence(kwargs):
                result = command(*args, **kwargs)
            sys.stdout.flush()
            return result
        except Interrupted as error:
            say(str(error))
            raise typer.Exit(_signalled(error)) from None
        except WrongUsage as error:
            say(str(error))
            raise typer.Exit(WRONG_USAGE) from None
        except LaketagError as error:
            say(str(error))
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt as error:
            say("stopped; the same command goes on from what is staged, if anything is")
            raise typer.Exit(_signalled(error)) from None
        except BrokenPipeError:
            # The reader has left, as `head` does; Python must not complain about it once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(128 + signal.SIGPIPE) from None
        except OSError as error:
            why = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
            say(f"{why}; look at the path, its permissions and the space left, and run the same again")
            raise typer.Exit(FAILED) from None

    return run


def _signalled(error: BaseException) -> int:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt) and cause.args == (signal.SIGTERM.name,):
            return 128 + signal.SIGTERM
        cause = cause.__cause__ or cause.__context__
    return 128 + signal.SIGINT
