#!/usr/bin/env python3
"""Watches the metrics socket with the package `websockets`, as metrics-scenario.mjs has it.

    metrics.py URL KEY
"""
import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

MISTAKE = {"interval_seconds": 5}
WISH = {"metrics": ["requests_total", "gaps_total"], "interval_seconds": 1, "include_history": True}


def tell(message):
    print(json.dumps(message), flush=True)


async def main(url, key):
    said = chosen = 0
    async with connect(url, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
        try:
            while True:
                message = json.loads(await socket.recv())
                tell(message)
                if message["type"] == "Snapshot" and said == 0:
                    said = 1
                    await socket.send(json.dumps(MISTAKE))
                elif message["type"] == "Error" and said == 1:
                    said = 2
                    await socket.send(json.dumps(WISH))
                elif message["type"] == "Snapshot" and "success_rate" not in message:
                    chosen += 1
                    if chosen == 2:
                        tell({"ready": True})
        except ConnectionClosed as closed:
            tell({"closed": closed.rcvd.code, "reason": closed.rcvd.reason})


asyncio.run(main(*sys.argv[1:]))
