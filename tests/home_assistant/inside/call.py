"""Runs inside Home Assistant's own environment: one command over its websocket, the answer as JSON.

python call.py BASE TOKEN '{"type": …}'
"""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp


async def main(base: str, token: str, command: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{base}/api/websocket") as line:
        await line.receive_json()
        await line.send_json({"type": "auth", "access_token": token})
        await line.receive_json()
        await line.send_json({"id": 1, **json.loads(command)})
        print(json.dumps(await line.receive_json()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
