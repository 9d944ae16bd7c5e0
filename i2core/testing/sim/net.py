"""The network between the simulated machines: connections that are slow, break, become silent, or lose one end.

Within a connection bytes keep their order; between two connections there is no order. Data that were sent may never
arrive: a cut or a half-open connection loses them, a stalled one delays them.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from random import Random

import trio

from i2core.api import Channel, ClientTransport, LinkError, Peer
from i2core.testing.sim.machine import Killed, Machine, running

Handler = Callable[[trio.abc.Stream, Channel, str | None], Awaitable[None]]
BUFFER_BYTES = 16 * 1024
"""So many bytes are in flight in one direction before the sender must wait."""

origin: contextvars.ContextVar[Machine | None] = contextvars.ContextVar("origin", default=None)
"""Within a served connection: the machine that opened it."""


class _Wire:
    """One direction of a connection."""

    def __init__(self, chance: Random, delay_s: float) -> None:
        self._chance = chance
        self._delay_s = delay_s
        self._last_s = 0.0
        self.queue: deque[tuple[float, bytes]] = deque()
        self.waiting_bytes = 0
        self.ended = False
        self.stalled = False
        self.lot = trio.lowlevel.ParkingLot()

    def put(self, data: bytes) -> None:
        """Sends data, which arrive in order."""
        arrives = trio.current_time() + self._delay_s * self._chance.uniform(0.5, 2.0)
        self._last_s = max(self._last_s, arrives)
        self.queue.append((self._last_s, data))
        self.waiting_bytes += len(data)
        self.lot.unpark_all()

    def take(self, most: int) -> bytes:
        """Removes and returns data that have arrived, up to `most` bytes; empty when there are none."""
        if self.stalled or not self.queue or self.queue[0][0] > trio.current_time():
            return b""
        arrives, data = self.queue.popleft()
        if len(data) > most:
            self.queue.appendleft((arrives, data[most:]))
            data = data[:most]
        self.waiting_bytes -= len(data)
        self.lot.unpark_all()
        return data


class Connection:
    """Both directions, and both ends."""

    def __init__(self, net: SimNet, client: Machine, server: Machine, chance: Random) -> None:
        delay_s = chance.choice((0.0, 0.001, 0.005, 0.03))
        there, back = _Wire(chance, delay_s), _Wire(chance, delay_s)
        self.net = net
        self.near = _End(self, client, out=there, into=back)
        self.far = _End(self, server, out=back, into=there)

    @property
    def ends(self) -> tuple[_End, _End]:
        """The client's end and the server's end."""
        return self.near, self.far

    def cut(self) -> None:
        """Breaks the connection; both ends learn it at once."""
        for end in self.ends:
            end.break_()

    def stall(self, *, there: bool = True, back: bool = True) -> None:
        """Nothing arrives until `resume`."""
        self.near.out.stalled |= there
        self.far.out.stalled |= back

    def resume(self) -> None:
        """The delayed data arrive."""
        for end in self.ends:
            end.out.stalled = False
            end.out.lot.unpark_all()


class _End(trio.abc.Stream):
    """A machine's end of a connection."""

    def __init__(self, connection: Connection, machine: Machine, *, out: _Wire, into: _Wire) -> None:
        self.connection = connection
        self.machine = machine
        self.out = out
        self.into = into
        self.broken = False
        self.closed = False

    def break_(self) -> None:
        """The machine learns that the connection is gone."""
        self.broken = True
        self.out.lot.unpark_all()
        self.into.lot.unpark_all()
        self.connection.net.ended(self.connection)

    def _check(self) -> None:
        if self.machine.dead:
            raise Killed
        if self.closed:
            raise trio.ClosedResourceError
        if self.broken:
            raise trio.BrokenResourceError("the connection broke")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        view, at = bytes(data), 0
        await trio.lowlevel.checkpoint()
        while True:
            self._check()
            if self.out.ended:
                raise trio.BrokenResourceError("the peer has closed")
            room = BUFFER_BYTES - self.out.waiting_bytes
            if room > 0:
                part = view[at : at + room]
                self.out.put(part)
                at += len(part)
                if at >= len(view):
                    return
            else:
                await self.out.lot.park()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        into = self.into
        while True:
            self._check()
            data = into.take(max_bytes or 1 << 30)
            if data:
                return data
            if into.queue and not into.stalled:
                with trio.move_on_at(into.queue[0][0]):
                    await into.lot.park()
            elif into.ended and not into.stalled:
                return b""
            else:
                await into.lot.park()

    async def aclose(self) -> None:
        if not self.closed:
            self.closed = True
            self.out.ended = True
            self.into.ended = True
            self.out.lot.unpark_all()
            self.into.lot.unpark_all()
            self.connection.net.ended(self.connection)
        await trio.lowlevel.checkpoint()


class _Listener:
    """A machine that serves connections."""

    def __init__(self, machine: Machine, handler: Handler, nursery: trio.Nursery) -> None:
        self.machine = machine
        self._handler = handler
        self._nursery = nursery
        self._context = contextvars.copy_context()

    def serve(self, end: _End, channel: Channel, client: Machine, name: str | None) -> None:
        """Starts the handler, as the server's own task."""
        self._context.copy().run(self._nursery.start_soon, self._run, end, channel, client, name)

    async def _run(self, end: _End, channel: Channel, client: Machine, name: str | None) -> None:
        origin.set(client)
        try:
            await self._handler(end, channel, name)
        finally:
            with trio.CancelScope(shield=True):
                await end.aclose()


class SimNet:
    """All connections between the machines of a world."""

    def __init__(self, chance: Random, *, named: bool) -> None:
        """`named`: the server gets the names of its clients."""
        self._chance = chance
        self._named = named
        self.up = True
        """False: nobody can connect."""
        self.cut_off: set[str] = set()
        """Machines that cannot connect."""
        self._connections: dict[Connection, None] = {}
        self._listener: _Listener | None = None

    @property
    def connections(self) -> list[Connection]:
        """Connections that are open at one end at least, the oldest first."""
        return list(self._connections)

    def listen(self, machine: Machine, handler: Handler, nursery: trio.Nursery) -> None:
        """The machine serves connections from now on; the handlers run in the caller's context."""
        self._listener = _Listener(machine, handler, nursery)

    def client(self) -> ClientTransport:
        """The client transport of the machine whose task calls this."""
        return _Client(self)

    async def connect(self, peer: Peer, channel: Channel) -> _End:
        """As `ClientTransport.connect`."""
        machine = running.get()
        assert machine is not None
        await trio.sleep(self._chance.choice((0.0, 0.001, 0.02)))
        listener = self._listener
        if not self.up or machine.name in self.cut_off:
            await trio.sleep(self._chance.choice((0.0, 0.5, 3.0)))
            raise LinkError("no connection", obj=peer.name)
        if listener is None or listener.machine.dead:
            raise LinkError("connection refused", obj=peer.name)
        connection = Connection(self, machine, listener.machine, self._chance)
        self._connections[connection] = None
        listener.serve(connection.far, channel, machine, machine.name if self._named else None)
        return connection.near

    def ended(self, connection: Connection) -> None:
        """Removes the connection when both ends are closed."""
        if all(end.closed or end.broken for end in connection.ends):
            self._connections.pop(connection, None)

    def cut(self) -> None:
        """Breaks every connection; data in flight are lost."""
        for connection in self.connections:
            connection.cut()

    def come_up(self) -> None:
        """Every machine that is not cut off can connect."""
        self.up = True

    def died(self, machine: Machine, *, silently: bool) -> None:
        """The machine died. Its kernel resets the connections; after a power cut (`silently`) the peers receive
        nothing."""
        if self._listener is not None and self._listener.machine is machine:
            self._listener = None
        for connection in self.connections:
            for end, other in (connection.ends, connection.ends[::-1]):
                if end.machine is machine:
                    end.break_()
                    if silently:
                        end.out.stalled = True
                    else:
                        other.break_()

    def rebooted(self, name: str) -> None:
        """A machine that died silently is back: it resets old connections when it receives data of them."""
        for connection in self.connections:
            for end, other in (connection.ends, connection.ends[::-1]):
                if end.machine.name == name and end.machine.dead:
                    other.break_()

    def closed(self, machine: Machine) -> None:
        """The machine came to an orderly end: it does not listen any more."""
        if self._listener is not None and self._listener.machine is machine:
            self._listener = None


class _Client(ClientTransport):
    def __init__(self, net: SimNet) -> None:
        self._net = net

    async def connect(self, peer: Peer, channel: Channel) -> trio.abc.Stream:
        return await self._net.connect(peer, channel)
