"""A TCP link between two nodes that can be cut, stalled and dropped."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from enum import Enum

_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets the connection
_PIECE = 65536


class State(Enum):
    """What the link does."""

    UP = "up"
    DOWN = "down"  # connections are reset
    STALLED = "stalled"  # connections are taken, nothing passes
    CUT_ANSWERS = "cut answers"  # requests pass; of the answer a few bytes come back, then the connection breaks


class Link:
    """Listens on ``port`` and passes on to ``target``, from the address that the caller has."""

    def __init__(self, port: int, target: tuple[str, int]) -> None:
        self._target = target
        self._state = State.UP
        self._changed = threading.Condition()
        self._sockets: set[socket.socket] = set()
        self.answers_cut = 0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        """Also ends what is open, except that what was stalled goes on when the link comes up."""
        with self._changed:
            before, self._state = self._state, state
            self._changed.notify_all()
        if state in (State.DOWN, State.CUT_ANSWERS) or before is State.CUT_ANSWERS:
            self.reset()

    def reset(self) -> None:
        """Breaks every connection."""
        for end in list(self._sockets):
            self._abort(end)

    def close(self) -> None:
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, address = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(near, address[0]), daemon=True).start()

    def _serve(self, near: socket.socket, caller: str) -> None:
        far = None
        self._sockets.add(near)
        try:
            self._wait_while_stalled()
            if self._state is State.DOWN:
                return
            far = socket.create_connection(self._target, timeout=10, source_address=(caller, 0))
            far.settimeout(None)
            self._sockets.add(far)
            forth = threading.Thread(target=self._pump, args=(near, far, False), daemon=True)
            forth.start()
            self._pump(far, near, True)
            forth.join()
        except OSError:
            pass
        finally:
            for end in (near, far):
                if end is not None:
                    self._abort(end)
                    self._sockets.discard(end)
                    end.close()

    def _pump(self, source: socket.socket, sink: socket.socket, answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                self._wait_while_stalled()
                if answer and self._state is State.CUT_ANSWERS:
                    sink.sendall(data[:20])
                    self.answers_cut += 1
                    break
                sink.sendall(data)
        self._abort(source)
        self._abort(sink)

    def _wait_while_stalled(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._state is not State.STALLED)

    @staticmethod
    def _abort(end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
