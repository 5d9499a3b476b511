#!/usr/bin/env python3
"""Does what socket-io-scenario.mjs does, with the package `python-socketio`.

    socket_io.py URL KEY LINES RECONNECTS websocket|polling
"""
import asyncio
import json
import sys

import socketio


async def refusal(url, namespace, auth, transport):
    """What a client is told that connects like this."""
    client = socketio.AsyncClient(reconnection=False)
    told = asyncio.get_running_loop().create_future()

    @client.on("connect", namespace=namespace)
    async def connect():
        told.done() or told.set_result("connected")

    @client.on("connect_error", namespace=namespace)
    async def connect_error(error):
        told.done() or told.set_result(error["message"] if isinstance(error, dict) else str(error))

    try:
        await client.connect(url, namespaces=[namespace], auth=auth, transports=[transport])
    except socketio.exceptions.ConnectionError:
        pass
    message = await told
    await client.eio.disconnect(abort=True)
    return message


async def read(url, auth, transport, seen, until):
    """Reads lines until there are so many; the id of the last, which is the one before where there are as many already."""
    client = socketio.AsyncClient(reconnection=False)
    done = asyncio.get_running_loop().create_future()
    last = auth["since"]

    def take(lines, id):
        nonlocal last
        if len(seen) < until:
            seen.extend(lines)
            last = id
        if len(seen) >= until and not done.done():
            done.set_result(last)

    def cut(reason):
        done.done() or done.set_exception(ConnectionError(f"disconnected with {len(seen)} lines: {reason}"))

    client.on("backlog", take, namespace="/logs/shop.logs")
    client.on("data", lambda line, id: take([line], id), namespace="/logs/shop.logs")
    client.on("disconnect", cut, namespace="/logs/shop.logs")
    await client.connect(url, namespaces=["/logs/shop.logs"], auth=auth, transports=[transport])
    last = await done
    await client.eio.disconnect(abort=True)
    return last


async def main(url, key, lines, reconnects, transport):
    lines, reconnects = int(lines), int(reconnects)
    cases = [("/logs/shop.logs", {}), ("/logs/shop.logs", {"token": "x" * 40}), ("/logs/bank.logs", {"token": key}),
             ("/nothing", {"token": key})]
    refusals = [await refusal(url, namespace, auth, transport) for namespace, auth in cases]

    # From the very first line on: the stream of the test is the seventh of its name.
    seen, since, turn = [], "7-start", 0
    while len(seen) < lines:
        until = lines * (turn + 1) // (reconnects + 1) if turn < reconnects else lines
        since = await read(url, {"token": key, "ids": True, "since": since}, transport, seen, until)
        turn += 1
    assert seen == [f"line {number}" for number in range(lines)], f"{len(seen)} lines"

    client = socketio.AsyncClient(reconnection=False)
    namespace = "/subscription-commands"
    await client.connect(url, namespaces=[namespace], auth={"token": key}, transports=[transport])
    acks = []
    for payload in [{"labId": "uid-cart", "command": 0}, json.dumps({"subscriptionId": "uid-cart", "command": 1}),
                    {"labId": "uid-cart", "command": 2, "node": "none"}, {"labId": "uid-none", "command": 0},
                    {"labId": "uid-other", "command": 0}, {"labId": "uid-broken", "command": 0}, "nonsense"]:
        ack = await client.call("data", payload, namespace=namespace, timeout=20)
        acks.append(0 if ack == {"payload": None} else ack["code"])
    await client.disconnect()
    print(json.dumps({"refusals": refusals, "lines": len(seen), "acks": acks}))


asyncio.run(main(*sys.argv[1:]))
