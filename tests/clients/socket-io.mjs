// Runs socket-io-scenario.mjs with the package `socket.io-client`.
//
//   node socket-io.mjs MODULES URL KEY LINES RECONNECTS websocket|polling
//
// MODULES is the folder in which `npm ci` ran. Prints what the scenario saw, as one JSON object.
import { createRequire } from 'node:module'
import { scenario } from './socket-io-scenario.mjs'

const [modules, url, key, lines, reconnects, transport] = process.argv.slice(2)
const { io } = createRequire(modules + '/')('socket.io-client')

const seen = await scenario(io, url, key, Number(lines), Number(reconnects), { transports: [transport] })
console.log(JSON.stringify(seen))
process.exit(0)
