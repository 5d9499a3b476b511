// Watches the metrics socket from a page in Chromium.
//
//   node metrics-browser.mjs MODULES PAGE KEY subprotocol|ticket
//
// PAGE is the address of a page of the server; the socket is on the same. Prints what metrics.mjs prints.
import { launch, source } from './browser.mjs'

const [modules, address, key, how] = process.argv.slice(2)

const browser = await launch(modules)
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
const scenario = await source('metrics-scenario.mjs')
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
