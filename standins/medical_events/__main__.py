"""``python -m standins.medical_events --port 8096``; a node asks ``http://127.0.0.1:8096``."""

from __future__ import annotations

from standins.medical_events.app import application
from standins.serving import serve_callers

if __name__ == "__main__":
    serve_callers("medical_events", "A stand-in of medical events of P1. It makes them up.", 8096, application)
