/** The pino logger behind `Logger`: JSON lines on stderr; level by MCTL_LOG (debug, info, warn, error). */
import { destination, pino } from 'pino'
import type { Logger } from '../lib/log.ts'

export function makeLogger(component: string, level: string | undefined): Logger {
  // Synchronous: the last lines before a crash are the ones that matter.
  return wrap(pino({ level: level ?? 'info', base: { component } }, destination({ fd: 2, sync: true })))
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
