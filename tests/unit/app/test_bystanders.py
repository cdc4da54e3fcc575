"""A looker-on that raises is told once, switched off, and stops nobody; the inbox goes on to the next one."""

from tidegate.app.bystanders import Bystander


def test_a_looker_that_raises_is_told_once_and_called_no_more() -> None:
    seen: list[int] = []
    told: list[str] = []

    def look(thing: int) -> None:
        seen.append(thing)
        if thing == 2:
            raise BrokenPipeError(32, "broken pipe")

    bystander = Bystander(look, told.append)
    for thing in (1, 2, 3):
        bystander(thing)
    assert seen == [1, 2]
    assert told == ["function raised and is switched off: BrokenPipeError: [Errno 32] broken pipe"]
