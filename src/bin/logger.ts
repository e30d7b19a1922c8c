/** The pino logger behind `Logger`: JSON lines on stderr, or in a bounded file; level by MCTL_LOG (debug, info, warn, error). */
import { mkdirSync, renameSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { destination, pino } from 'pino'
import type { Logger } from '../lib/log.ts'

/** One file in use and one before it: launchd's own file grows for ever, and newsyslog cannot tell us to reopen it. */
const MAX_BYTES = 10 * 2 ** 20
const LOOK_EVERY_LINES = 500

export function makeLogger(component: string, level: string | undefined, file?: string): Logger {
  const options = { level: level ?? 'info', base: { component } }
  // Synchronous: the last lines before a crash are the ones that matter.
  if (file === undefined) return wrap(pino(options, destination({ fd: 2, sync: true })))
  mkdirSync(dirname(file), { recursive: true })
  return wrap(pino(options, bounded(file)))
}

function bounded(file: string): { write(line: string): void } {
  const log = destination({ dest: file, sync: true, append: true, mode: 0o640 })
  let lines = 0
  return {
    write(line) {
      log.write(line)
      lines += 1
      if (lines % LOOK_EVERY_LINES !== 1 || statSync(file).size < MAX_BYTES) return
      renameSync(file, `${file}.1`)
      log.reopen()
    },
  }
}

function wrap(log: pino.Logger): Logger {
  return {
    debug: (message, facts) => log.debug(facts ?? {}, message),
    info: (message, facts) => log.info(facts ?? {}, message),
    warn: (message, facts) => log.warn(facts ?? {}, message),
    error: (message, facts) => log.error(facts ?? {}, message),
    with: (facts) => wrap(log.child(facts)),
  }
}
