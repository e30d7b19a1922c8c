// Progress: one line per step on stderr. stdout stays free for what runs after setup (`npm run demo`).

const PROGRESS_EVERY_MS = 5000
const LINE_CHARACTERS = 120
let progressAtMs = 0
let open = false

/** A finished sentence. */
export function say(line) {
  if (open) process.stderr.write('\r\u001b[K')
  open = false
  process.stderr.write(`setup: ${line}\n`)
}

/** What long work is at: rewrites one line on a terminal, a line now and then elsewhere. */
say.progress = (full) => {
  const line = full.slice(
    0,
    Math.min(process.stderr.columns ?? LINE_CHARACTERS, LINE_CHARACTERS) - 'setup: '.length - 1,
  )
  if (process.stderr.isTTY) {
    process.stderr.write(`\r\u001b[Ksetup: ${line}`)
    open = true
  } else if (Date.now() - progressAtMs > PROGRESS_EVERY_MS) {
    progressAtMs = Date.now()
    process.stderr.write(`setup: ${line}\n`)
  }
}
