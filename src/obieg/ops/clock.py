"""Consistent Time (ITI TF-1:7, ITI-1): what the kernel knows of this machine's clock.

Whoever keeps the time (chrony, ntpd, systemd-timesyncd) tells the kernel; ``adjtimex(2)`` says it again.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from typing import NamedTuple

import structlog
from prometheus_client import Gauge

# <sys/timex.h>
_STA_UNSYNC, _STA_NANO, _TIME_ERROR = 0x0040, 0x2000, 5
_LOOK_S = 60.0
OFFSET_MAX_S = 1.0  # ITI TF-1:7.1: a median error of less than one second

_OFFSET = Gauge(
    "obieg_clock_offset_seconds", "How far the clock is off, as the kernel knows.", multiprocess_mode="livemostrecent"
)
_ERROR = Gauge("obieg_clock_error_max_seconds", "The most that it may be off.", multiprocess_mode="livemostrecent")
_SYNCHRONISED = Gauge(
    "obieg_clock_synchronised", "Whether something keeps this machine's time.", multiprocess_mode="livemostrecent"
)

log = structlog.get_logger()


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_s", ctypes.c_long),
        ("time_us", ctypes.c_long),
        ("rest", ctypes.c_byte * 256),
    )


class Clock(NamedTuple):
    """What is known of it; times in seconds."""

    synchronised: bool
    offset: float
    error_max: float

    @property
    def trusted(self) -> bool:
        """Whether records of this machine can be put in order with those of others (ITI TF-1:7.1)."""
        return self.synchronised and abs(self.offset) < OFFSET_MAX_S


def read_clock() -> Clock:
    """Asks the kernel; changes nothing and needs no right."""
    state = _Timex()
    answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    if answer < 0:
        raise OSError(number := ctypes.get_errno(), os.strerror(number))
    unit = 1e-9 if state.status & _STA_NANO else 1e-6
    synchronised = answer != _TIME_ERROR and not state.status & _STA_UNSYNC
    return Clock(synchronised, state.offset * unit, state.maxerror * 1e-6)


def check_clock() -> None:
    """Warns at the start where nobody keeps this machine's time."""
    clock = read_clock()
    if not clock.trusted:
        log.warning(
            "nothing keeps this machine's time: audit records could not be put in order with those of other nodes; "
            "install chrony, or see to it that the host's time is kept",
            synchronised=clock.synchronised,
            offset_s=clock.offset,
        )


async def watch_clock() -> None:
    """Tells the metrics, for ever."""
    while True:
        clock = read_clock()
        _OFFSET.set(clock.offset)
        _ERROR.set(clock.error_max)
        _SYNCHRONISED.set(clock.synchronised)
        await asyncio.sleep(_LOOK_S)
