"""``python -m standins.sms_gateway --port 8098``; a node sends to ``http://127.0.0.1:8098/messages``."""

from __future__ import annotations

from standins.serving import serve_callers
from standins.sms_gateway.app import application

if __name__ == "__main__":
    serve_callers("sms_gateway", "A stand-in of an SMS gateway. It sends nothing to anybody.", 8098, application)
