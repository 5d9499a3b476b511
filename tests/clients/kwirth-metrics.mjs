// Reads metrics the way a client of Kwirth does: with the enums of its library.
//
//   node kwirth-metrics.mjs MODULES URL KEY NAMESPACE POD METRIC OTHER
//
// MODULES is the folder in which `npm ci` ran. Starts a stream of METRIC, changes it to OTHER after the first value,
// and stops after the first of that. Prints one JSON object a line for every message.
import { createRequire } from 'node:module'

const [modules, url, key, namespace, pod, metric, other] = process.argv.slice(2)
const require = createRequire(modules + '/')
const kwirth = require('@jfvilas/kwirth-common')
const { WebSocket } = require('ws')

const { EInstanceMessageAction: Action, EInstanceMessageFlow: Flow, EInstanceMessageType: Type } = kwirth
const accessKey = kwirth.accessKeySerialize(kwirth.accessKeyDeserialize(key))
const config = (action, instance, metrics) => ({
  action,
  flow: Flow.REQUEST,
  type: Type.SIGNAL,
  channel: kwirth.EInstanceMessageChannel.METRICS,
  instance,
  objects: kwirth.EInstanceConfigObject.PODS,
  accessKey,
  scope: kwirth.EInstanceConfigScope.STREAM,
  view: kwirth.EInstanceConfigView.POD,
  namespace,
  group: '',
  pod,
  container: '',
  data: { mode: kwirth.EMetricsConfigMode.STREAM, aggregate: false, interval: 2, metrics: [metrics] }
})

const socket = new WebSocket(url)
let asked = false
socket.on('open', () => socket.send(JSON.stringify(config(Action.START, '', metric))))
socket.on('message', data => {
  const message = JSON.parse(data)
  console.log(JSON.stringify(message))
  if (message.type === Type.DATA && message.flow === Flow.UNSOLICITED) {
    const names = message.assets.flatMap(asset => asset.values.map(value => value.metricName))
    if (names.includes(other)) socket.send(JSON.stringify(config(Action.STOP, message.instance, other)))
    else if (names.includes(metric) && !asked) {
      asked = true
      socket.send(JSON.stringify(config(Action.MODIFY, message.instance, other)))
    }
  }
  if (message.action === Action.STOP && message.flow === Flow.RESPONSE) socket.close()
})
socket.on('error', error => { console.error(error.message); process.exitCode = 1 })
