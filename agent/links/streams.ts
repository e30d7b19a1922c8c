/**
 * The bytes of a measurement: a sender that fills a socket, a receiver that says how fast it came, and small messages
 * there and back. All bounded, in bytes and in time, at both ends.
 */
import type { Socket } from 'node:net'
import type { Clock } from '../../src/lib/clock.ts'
import type { Arrival } from './rate.ts'
import { lowerQuartile, rateOf } from './rate.ts'

/** Of one round. A twentieth of a second on the fastest cable; a slow one is cut off by the time. */
const BYTES_MAX = 128 * 2 ** 20
const MILLISECONDS_MAX = 700
const PING_BYTES = 64
const PINGS = 40
const CHUNK = Buffer.alloc(256 * 2 ** 10)

/** Sends until the bounds or the other side end it. */
export function send(socket: Socket, clock: Clock): void {
  const untilMs = clock.monotonicMs() + 2 * MILLISECONDS_MAX
  let left = BYTES_MAX
  const more = () => {
    while (left > 0 && !socket.destroyed && clock.monotonicMs() < untilMs) {
      left -= CHUNK.byteLength
      if (!socket.write(CHUNK)) return void socket.once('drain', more)
    }
    socket.end()
  }
  more()
}

/** Bytes per second as they come in; undefined: none came. */
export function receive(socket: Socket, clock: Clock): Promise<number | undefined> {
  return new Promise((resolve) => {
    const arrivals: Arrival[] = []
    let bytes = 0
    const done = () => {
      timer?.cancel()
      socket.off('data', onData)
      resolve(rateOf(arrivals))
    }
    let timer: ReturnType<Clock['after']> | undefined
    const onData = (chunk: Buffer) => {
      timer ??= clock.after(MILLISECONDS_MAX, done)
      bytes += chunk.byteLength
      arrivals.push({ atMs: clock.monotonicMs(), bytes })
      if (bytes >= BYTES_MAX) done()
    }
    socket.on('data', onData)
    socket.once('end', done)
    socket.once('close', done)
  })
}

/** Microseconds of a small message there and back; undefined: none came back. */
export async function ping(socket: Socket, clock: Clock): Promise<number | undefined> {
  const untilMs = clock.monotonicMs() + MILLISECONDS_MAX
  const took: number[] = []
  while (took.length < PINGS && clock.monotonicMs() < untilMs) {
    const sentMs = clock.monotonicMs()
    if (!(await returned(socket))) break
    took.push((clock.monotonicMs() - sentMs) * 1000)
  }
  // The first ones find cold caches and sleeping radios.
  return lowerQuartile(took.length > 8 ? took.slice(4) : took)
}

function returned(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    let left = PING_BYTES
    const end = (came: boolean) => {
      socket.off('data', onData).off('close', onClose)
      resolve(came)
    }
    const onData = (chunk: Buffer) => {
      left -= chunk.byteLength
      if (left <= 0) end(true)
    }
    const onClose = () => end(false)
    socket.on('data', onData).once('close', onClose)
    if (socket.destroyed) return end(false)
    socket.write(CHUNK.subarray(0, PING_BYTES))
  })
}
