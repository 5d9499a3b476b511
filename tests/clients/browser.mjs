// Chromium, as the clients in a page begin it: a browser of its own, in a folder that is gone afterwards. It is that of the
// environment variable CHROMIUM, or /usr/bin/chromium. MODULES is the folder of the modules.
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'

export function launch(modules) {
  const { chromium } = createRequire(modules + '/')('playwright-core')
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'
    ]
  })
}

// The text of a module beside this one, for a page to import.
export function source(name) {
  return readFile(new URL('./' + name, import.meta.url), 'utf8')
}
