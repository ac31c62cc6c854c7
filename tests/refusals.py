"""Short forms of tests that a call fails and says why."""

from collections.abc import Callable

import pytest


def refuses(message: str, function: Callable, *args, error=ValueError, **kwargs) -> None:
    """The call fails, and its message matches."""
    with pytest.raises(error, match=message):
        function(*args, **kwargs)


def refusals(*cases: tuple[Callable[[], object], str]) -> Callable:
    """A test of calls that fail, one a case, each with its message."""

    @pytest.mark.parametrize(("call", "message"), cases)
    def test(call, message):
        refuses(message, call)

    return test
