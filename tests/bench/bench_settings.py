"""The region that benchmarks are tried on."""

from __future__ import annotations

from pathlib import Path

from bench.messages import Identity

from obieg.ops.settings import Settings

IDENTITY = Identity("1.3.6.1.4.1.21367.13.20.1000", "2.25.17")


def settings_of(dsn: str, folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "role": "region",
            "lab": True,
            "data_dir": folder,
            "database": {"dsn": dsn},
            "identity": {
                "home_community_id": "2.25.16",
                "repository_unique_id": IDENTITY.repository_unique_id,
                "assigning_authority": IDENTITY.assigning_authority,
            },
        }
    )
