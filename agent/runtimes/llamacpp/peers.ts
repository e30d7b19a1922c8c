/**
 * Does an RPC server listen? Asked by connecting and closing at once, which does an idle one no harm (a ring's port would
 * be poisoned); it serves one client at a time, so a connection must not be held.
 */
import { connect } from 'node:net'
import type { Clock } from '../../../src/lib/clock.ts'
import { sleep } from '../../../src/lib/clock.ts'

const RETRY_MS = 100

/** Asks until nothing is in the way any more; else what was, at the deadline or when the signal aborted. */
export async function retried(
  obstacle: () => Promise<string | undefined>,
  deadlineMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<string | undefined> {
  const untilMs = clock.monotonicMs() + deadlineMs
  for (;;) {
    const why = await obstacle()
    if (why === undefined || signal.aborted || clock.monotonicMs() >= untilMs) return why
    await sleep(clock, RETRY_MS, signal)
  }
}

/** undefined: somebody listens on the port of this machine. */
export function listenObstacle(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    const end = (why: string | undefined) => {
      socket.destroy()
      resolve(why)
    }
    socket.once('connect', () => end(undefined))
    socket.once('error', (error) => end(error.message))
  })
}
