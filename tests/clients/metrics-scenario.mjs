// What a client of the metrics socket says, and when: a mistake after the first snapshot, then a subscription, then two
// snapshots of it. The same for Node.js and for the browser; metrics.py says it in Python.
export const MISTAKE = '{"interval_seconds":5}'
export const WISH = '{"metrics":["requests_total","gaps_total"],"interval_seconds":1,"include_history":true}'

// Returns what is to be called with each text that comes. `send` takes a text, `print` an object.
export function scenario (send, print) {
  let said = 0
  let chosen = 0
  return text => {
    const message = JSON.parse(text)
    print(message)
    if (message.type === 'Snapshot' && said === 0) {
      said = 1
      send(MISTAKE)
    } else if (message.type === 'Error' && said === 1) {
      said = 2
      send(WISH)
    } else if (message.type === 'Snapshot' && !('success_rate' in message) && ++chosen === 2) {
      print({ ready: true })
    }
  }
}
