"""Laws of the simulated wires: a stream stays a stream whatever delays it, and a kill is the same at every place."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.app.simulation import Network, Rule, VirtualLoop, run
from tidegate.app.simulation.faults import Coalesce, Delay, Hold, Split, StallUntil

PORT = 9000

TIMING_FAULTS = st.one_of(
    st.builds(Delay, st.floats(0, 1), st.floats(1, 5)),
    st.builds(Split, st.integers(1, 7), st.floats(0, 0.5)),
    st.builds(Coalesce, st.floats(0.01, 3)),
    st.builds(StallUntil, st.floats(0, 50)),
)
RULES = st.lists(st.tuples(TIMING_FAULTS, st.floats(0.05, 1.0)), max_size=4)
WRITES = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from([0.0, 0.001, 1.0])), min_size=1, max_size=30
)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give back what comes, until the end."""
    while chunk := await reader.read(1000):
        writer.write(chunk)
    writer.close()


async def talk(
    loop: VirtualLoop, rules: list[tuple[Any, float]], writes: list[tuple[bytes, float]], hold: bool
) -> bytes:
    """What an echo gives back of ``writes`` through faults that change when, but not what."""
    with loop.node("venue"):
        await asyncio.start_server(echo, "127.0.0.1", PORT)
    for fault, chance in rules:
        loop.network.inject(Rule(fault, chance=chance))

    async def client() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        held = loop.network.inject(Rule(Hold(), chance=0.5)) if hold else None
        for data, pause_s in writes:
            writer.write(data)
            await asyncio.sleep(pause_s)
        writer.write_eof()
        if held is not None:
            loop.network.remove(held)
        try:
            return await reader.read()
        finally:
            writer.close()

    return await loop.spawn("daemon", client())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), rules=RULES, writes=WRITES, hold=st.booleans())
def test_faults_of_time_lose_double_and_swap_nothing(
    seed: int, rules: list[tuple[Any, float]], writes: list[tuple[bytes, float]], hold: bool
) -> None:
    outcomes = [run(lambda loop: talk(loop, rules, writes, hold), seed, limit_s=10_000) for _ in range(2)]
    assert outcomes[0].result == b"".join(data for data, _ in writes)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].errors == ()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), effect=st.integers(1, 22))  # connect, 10 writes of 2 each, close
def test_a_kill_anywhere_leaves_a_prefix_and_a_second_life_finishes(seed: int, effect: int) -> None:
    async def main(loop: VirtualLoop) -> tuple[bytes, list[bytes]]:
        lives: list[bytes] = []

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got = b""
            try:
                while chunk := await reader.read(100):
                    got += chunk
            except ConnectionResetError:
                pass
            lives.append(got)
            writer.close()

        async def daemon() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
            for number in range(10):
                writer.write(b"%d" % number)
                await asyncio.sleep(0.001)
            writer.close()

        with loop.node("venue"):
            await asyncio.start_server(take, "127.0.0.1", PORT)
        loop.kill_at("daemon", effect)
        for _ in range(2):
            loop.spawn("daemon", daemon())
            await asyncio.sleep(60)
        return b"0123456789", lives

    outcome = run(main, seed)
    whole, lives = outcome.result
    assert lives[-1] == whole
    assert all(whole.startswith(life) for life in lives)
    assert outcome.errors == ()


@given(seed=st.integers(0, 2**64), draws=st.integers(1, 50))
def test_a_link_draws_what_its_seed_says(seed: int, draws: int) -> None:
    first, second = Network(seed), Network(seed)
    ours = [first.latency_s("a", "b") for _ in range(draws)]
    assert ours == [second.latency_s("a", "b") for _ in range(draws)]
    assert min(ours) > 0
