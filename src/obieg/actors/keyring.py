"""The keys that this node signs tokens with: made in time, shown before they sign, forgotten at last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from obieg.domain.authorization import AuthorizationStore, SigningKey
from obieg.domain.problems import RetryLater
from obieg.wire import jwt

# How long a key signs; how long before that it is shown, so that whoever keeps our keys has it in time; how long after.
SIGNS = timedelta(days=90)
SHOWN_BEFORE = timedelta(days=1)
SHOWN_AFTER = timedelta(days=2)
# How often a worker looks for keys of others: for one that it does not know, and otherwise.
_UNKNOWN_S = 2.0
_STALE_S = 300.0


class Keyring:
    """The keys of one worker's node; several workers and nodes share them through the store."""

    def __init__(self, store: AuthorizationStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._keys: dict[str, tuple[SigningKey, jwt.Key]] = {}
        self._read_at = -_STALE_S
        self._reading = asyncio.Lock()

    async def current(self) -> tuple[str, jwt.Key]:
        """Id and pair of the key that signs now. Raises RetryLater."""
        for _ in range(2):
            await self._refresh(_STALE_S)
            now = self._clock()
            signing = [key_id for key_id, (key, _) in self._keys.items() if key.signs_from <= now]
            if signing:
                return signing[-1], self._keys[signing[-1]][1]
            await self.renew()
        raise RetryLater("the node has no key to sign tokens with")

    async def key(self, key_id: str) -> jwt.Key | None:
        """A key by its id."""
        if key_id not in self._keys:
            await self._refresh(_UNKNOWN_S)
        found = self._keys.get(key_id)
        return found[1] if found else None

    async def jwks(self) -> dict[str, list[dict[str, str]]]:
        """What others verify our tokens with (RFC 7517, section 5)."""
        await self.current()
        return {"keys": [key.public for key, _ in self._keys.values()]}

    async def renew(self) -> None:
        """Makes the next key when its time has come, and forgets old ones."""
        now = self._clock()
        keys = await self._store.keys()
        if not keys:
            await self._add(now)
        elif keys[-1].signs_from + SIGNS - SHOWN_BEFORE <= now:
            await self._add(now + SHOWN_BEFORE)
        await self._store.forget_keys(now - SHOWN_AFTER)
        self._read_at = -_STALE_S

    async def rotate(self) -> str:
        """A new key that signs from now on, as when one may have been seen by others; its id."""
        key_id = await self._add(self._clock(), always=True)
        self._read_at = -_STALE_S
        return key_id

    async def _add(self, signs_from: datetime, *, always: bool = False) -> str:
        pair = jwt.new_key()
        key_id = pair.thumbprint()
        stored = SigningKey(key_id, jwt.public_jwk(pair, key_id), jwt.private_value(pair), signs_from)
        # Of several workers that find it is time, one makes the key.
        none_after = signs_from if always else signs_from - SIGNS / 2
        await self._store.add_key(stored, unless_after=none_after)
        return key_id

    async def _refresh(self, seconds: float) -> None:
        async with self._reading:  # whoever comes while they are read waits for them
            at = time.monotonic()
            if at - self._read_at < seconds:
                return
            stored = await self._store.keys()
            self._read_at = at
            self._keys = {
                key.key_id: self._keys.get(key.key_id) or (key, jwt.key_pair(key.public, key.secret)) for key in stored
            }
