// Watches the metrics socket with the WebSocket of the package `ws`.
//
//   node metrics.mjs MODULES URL KEY
//
// MODULES is the folder in which `npm ci` ran. Prints each message, one JSON object a line; {"ready":true} once it has
// got all that it asked for; {"closed":CODE,"reason":TEXT} when the server has closed.
import { createRequire } from 'node:module'
import { scenario } from './metrics-scenario.mjs'

const [modules, url, key] = process.argv.slice(2)
const { WebSocket } = createRequire(modules + '/')('ws')

const socket = new WebSocket(url, { headers: { authorization: `Bearer ${key}` } })
const hear = scenario(text => socket.send(text), message => console.log(JSON.stringify(message)))
socket.on('message', data => hear(data.toString()))
socket.on('close', (closed, reason) => console.log(JSON.stringify({ closed, reason: reason.toString() })))
socket.on('error', error => { console.error(error.message); process.exitCode = 1 })
