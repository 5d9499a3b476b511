// Starts a log instance the way a client of Kwirth does: with the enums and the key classes of its library.
//
//   node kwirth.mjs MODULES URL KEY NAMESPACE POD LAST
//
// MODULES is the folder in which `npm ci` ran. Prints one JSON object a line for every message, until the line LAST.
import { createRequire } from 'node:module'

const [modules, url, key, namespace, pod, last] = process.argv.slice(2)
const require = createRequire(modules + '/')
const kwirth = require('@jfvilas/kwirth-common')
const { WebSocket } = require('ws')

// A client keeps the key as an object and writes it out again.
const accessKey = kwirth.accessKeyDeserialize(key)
const serialised = kwirth.accessKeySerialize(accessKey)
if (serialised !== key) throw new Error('the library changes the key')
const [resource] = kwirth.parseResources(accessKey.resources)

const socket = new WebSocket(url)
const base = {
  flow: kwirth.EInstanceMessageFlow.REQUEST,
  type: kwirth.EInstanceMessageType.SIGNAL,
  channel: kwirth.EInstanceMessageChannel.LOG
}
const { EInstanceMessageAction: Action } = kwirth
socket.on('open', () => {
  socket.send(JSON.stringify({ ...base, action: Action.PING, instance: '' }))
  socket.send(JSON.stringify({
    ...base,
    action: Action.START,
    instance: '',
    objects: kwirth.EInstanceConfigObject.PODS,
    accessKey: serialised,
    scope: kwirth.EInstanceConfigScope.VIEW,
    view: kwirth.EInstanceConfigView.POD,
    namespace,
    group: '',
    pod,
    container: '',
    data: { timestamp: false, previous: false, maxMessages: 1000, fromStart: true }
  }))
})
socket.on('message', data => {
  const message = JSON.parse(data)
  console.log(JSON.stringify(message))
  const is = (type, action, flow) =>
    message.type === kwirth.EInstanceMessageType[type] &&
    message.action === Action[action] &&
    message.flow === kwirth.EInstanceMessageFlow[flow]
  if (is('DATA', 'NONE', 'UNSOLICITED') && message.text.split('\n').includes(last)) {
    socket.send(JSON.stringify({ ...base, action: Action.STOP, instance: message.instance }))
  }
  if (is('SIGNAL', 'STOP', 'RESPONSE')) socket.close()
})
socket.on('close', () => console.log(JSON.stringify({ closed: true, scopes: resource.scopes })))
socket.on('error', error => { console.error(error.message); process.exitCode = 1 })
