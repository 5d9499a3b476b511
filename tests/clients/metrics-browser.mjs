// Watches the metrics socket from a page in Chromium.
//
//   node metrics-browser.mjs MODULES PAGE KEY subprotocol|ticket
//
// PAGE is the address of a page of the server; the socket is on the same. Prints what metrics.mjs prints. The browser is
// that of the environment variable CHROMIUM, or /usr/bin/chromium.
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'

const [modules, address, key, how] = process.argv.slice(2)
const { chromium } = createRequire(modules + '/')('playwright-core')

// A browser of its own, in a folder that is gone afterwards.
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'
  ]
})
const page = await browser.newPage()
let end
const closed = new Promise((resolve, reject) => {
  end = resolve
  page.on('pageerror', reject)
})
// Awaited, so that it is there when the page's script begins.
await page.exposeFunction('tell', message => {
  console.log(JSON.stringify(message))
  if ('closed' in message) end()
})
await page.goto(address)
const scenario = await readFile(new URL('./metrics-scenario.mjs', import.meta.url), 'utf8')
await page.evaluate(async ({ scenario, key, how }) => {
  const { scenario: begin } = await import('data:text/javascript,' + encodeURIComponent(scenario))
  const url = new URL('/ws/metrics', location.href.replace('http', 'ws'))
  let protocols = ['weir', 'bearer.' + key]
  if (how === 'ticket') {
    const answer = await fetch('/api/v1/tickets', { method: 'POST', headers: { authorization: 'Bearer ' + key } })
    url.searchParams.set('ticket', (await answer.json()).ticket)
    protocols = []
  }
  const socket = new WebSocket(url, protocols)
  const hear = begin(text => socket.send(text), window.tell)
  socket.onmessage = event => hear(event.data)
  socket.onclose = event => window.tell({ closed: event.code, reason: event.reason, protocol: socket.protocol })
}, { scenario, key, how })
await closed
await browser.close()
