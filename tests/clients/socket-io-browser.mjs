// Runs socket-io-scenario.mjs in a page in Chromium, with the bundle of the package `socket.io-client`.
//
//   node socket-io-browser.mjs MODULES PAGE KEY LINES RECONNECTS
//
// PAGE is the address of a page of the server. The page connects as it does by default: by polling first, then by
// WebSocket.
import { launch, source } from './browser.mjs'

const [modules, address, key, lines, reconnects] = process.argv.slice(2)

const browser = await launch(modules)
const page = await browser.newPage()
await page.goto(address)
await page.addScriptTag({ path: modules + '/node_modules/socket.io-client/dist/socket.io.min.js' })
const scenario = await source('socket-io-scenario.mjs')
const seen = await page.evaluate(async ({ scenario, key, lines, reconnects }) => {
  const { scenario: run } = await import('data:text/javascript,' + encodeURIComponent(scenario))
  return run(window.io, location.origin, key, lines, reconnects, {})
}, { scenario, key, lines: Number(lines), reconnects: Number(reconnects) })
console.log(JSON.stringify(seen))
await browser.close()
