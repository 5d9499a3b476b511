// What a client of Socket.IO does, in Node.js and in a page alike: connects as it may not, reads numbered lines across
// forced reconnections, and gives commands. Throws where something is not as promised; says what it saw otherwise.
//
// io is what `socket.io-client` gives; options are those of each connection, such as its transport.
export async function scenario(io, base, key, lines, reconnects, options) {
  const connect = (namespace, auth) => io(base + namespace, { ...options, forceNew: true, reconnection: false, auth })
  const once = (socket, ...events) =>
    new Promise(resolve => events.forEach(event => socket.once(event, (...rest) => resolve([event, ...rest]))))

  const refusals = []
  for (const [namespace, auth] of [
    ['/logs/shop.logs', {}], ['/logs/shop.logs', { token: 'x'.repeat(40) }], ['/logs/bank.logs', { token: key }],
    ['/nothing', { token: key }]
  ]) {
    const socket = connect(namespace, auth)
    const [event, error] = await once(socket, 'connect', 'connect_error')
    refusals.push(event === 'connect' ? 'connected' : error.message)
    socket.disconnect()
  }

  const seen = []
  // From the very first line on: the stream of the test is the seventh of its name.
  let since = '7-start'
  for (let round = 0; seen.length < lines; round++) {
    const until = round < reconnects ? Math.floor((lines * (round + 1)) / (reconnects + 1)) : lines
    const socket = connect('/logs/shop.logs', { token: key, ids: true, since })
    let backlogs = 0
    await new Promise((resolve, reject) => {
      const take = (line, id) => {
        // What comes after the cut is on its way and does not count: it comes again.
        if (seen.length < until) {
          seen.push(line)
          since = id
        }
        if (seen.length >= until) resolve()
      }
      socket.on('connect_error', reject)
      socket.on('backlog', (array, id) => {
        if (backlogs++ > 0) reject(new Error('a second backlog'))
        seen.push(...array)
        since = id
        if (seen.length >= until) resolve()
      })
      socket.on('data', (line, id) => {
        if (backlogs === 0) reject(new Error('data before the backlog'))
        take(line, id)
      })
      socket.on('signal', signal => reject(new Error('a signal: ' + JSON.stringify(signal))))
      socket.on('disconnect', reason => reject(new Error('disconnected: ' + reason)))
    })
    socket.removeAllListeners()
    // The connection is lost; nobody says goodbye.
    socket.io.engine.close()
  }
  const wrong = seen.findIndex((line, number) => line !== 'line ' + number)
  if (wrong >= 0 || seen.length !== lines) throw new Error(`${seen.length} lines; at ${wrong}: ${seen[wrong]}`)

  const acks = []
  const commands = connect('/subscription-commands', { token: key })
  await once(commands, 'connect')
  for (const payload of [
    { labId: 'uid-cart', command: 0 }, JSON.stringify({ subscriptionId: 'uid-cart', command: 1 }),
    { labId: 'uid-cart', command: 2, node: 'none' }, { labId: 'uid-none', command: 0 }, { labId: 'uid-other', command: 0 },
    { labId: 'uid-broken', command: 0 }, 'nonsense'
  ]) {
    const ack = await commands.timeout(20000).emitWithAck('data', payload)
    acks.push(ack.code ?? ('payload' in ack && ack.payload === null ? 0 : ack))
  }
  commands.disconnect()
  return { refusals, lines: seen.length, acks }
}
