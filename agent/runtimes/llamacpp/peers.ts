/**
 * Does an RPC server listen? Asked by connecting and closing at once, which does an idle one no harm (a ring's port would
 * be poisoned); it serves one client at a time, so a connection must not be held.
 */
import { connect } from 'node:net'
import type { Clock } from '../../../src/lib/clock.ts'
import { sleep } from '../../../src/lib/clock.ts'

const RETRY_MS = 100
const CONNECT_TIMEOUT_MS = 2000

/** True as soon as `host:port` accepts; false at the deadline, or when the signal aborts. */
export async function untilListens(
  address: string,
  deadlineMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<boolean> {
  const untilMs = clock.monotonicMs() + deadlineMs
  while (!signal.aborted) {
    if (await accepts(address)) return true
    if (clock.monotonicMs() >= untilMs) return false
    await sleep(clock, RETRY_MS, signal)
  }
  return false
}

function accepts(address: string): Promise<boolean> {
  const colon = address.lastIndexOf(':')
  return new Promise((resolve) => {
    const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)) })
    const end = (accepted: boolean) => {
      socket.destroy()
      resolve(accepted)
    }
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => end(false))
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })
}
