/**
 * Measures one link: knocks at the peer's measuring door over it, then sends, receives and pings through the ports that
 * the door opens. Every connection is bound to our own address on the link.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { EngineMeasurement, LinkMeasurement, LinkOrder } from '../../src/api/links.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { messageOf } from '../../src/lib/errors.ts'
import type { PeerDoors } from '../fetch/doors.ts'
import type { LinkBench } from './bench.ts'
import { Yielded, readFigures } from './bench.ts'
import type { Admission, MeasuringKind } from './door.ts'
import { ping, receive, send } from './streams.ts'

export interface MeasureDoors {
  /** To other nodes' doors, over TLS once there are identities. */
  readonly ask: PeerDoors['ask']
  readonly isServing: () => boolean
  /** Absent: no engine here measures links. */
  readonly bench?: LinkBench | undefined
  readonly platform: NodeJS.Platform
  readonly clock: Clock
}

const KNOCK_MS = 5_000
const STREAM_MS = 5_000
const ROUNDS_MAX = 4
const AGREE_SHARE = 0.05

/** The peer is there and will not be measured now. */
class Refused extends Error {}

/** Never rejects. */
export async function measureLink(doors: MeasureDoors, order: LinkOrder): Promise<LinkMeasurement> {
  if (doors.isServing()) return { kind: 'NotDone', message: 'engines run here' }
  try {
    const latencyMicros = await stream(doors, order, 'echo', async (socket) => {
      await begun(socket)
      return ping(socket, doors.clock)
    })
    const up = await bestOf(() => stream(doors, order, 'sink', (socket) => push(socket, doors.clock)))
    const down = await bestOf(() => stream(doors, order, 'source', (socket) => receive(socket, doors.clock)))
    if (latencyMicros === undefined || up === undefined || down === undefined)
      return { kind: 'Failed', message: `${order.peerAddress} was reached, but nothing came through` }
    const bytesPerSecond = Math.min(up, down)
    const engine = order.engine === true ? { engine: await throughEngine(doors, order, bytesPerSecond) } : {}
    return { kind: 'Measured', bytesPerSecond, latencyMicros, ...engine }
  } catch (error) {
    if (error instanceof Refused) return { kind: 'NotDone', message: error.message }
    return { kind: 'Failed', message: explained(error, doors.platform) }
  }
}

/** With a rank here and one at the peer, which its door starts. Never rejects. */
async function throughEngine(
  { ask, bench }: MeasureDoors,
  order: LinkOrder,
  bytesPerSecond: number,
): Promise<EngineMeasurement> {
  if (bench === undefined) return { kind: 'Failed', message: 'no engine here measures links' }
  const { peer, address, peerAddress } = order
  try {
    const port = await bench.take(address)
    try {
      const peerPort = await peerRank(ask, order, port)
      const said = await bench.run({ rank: 0, address, port, peerAddress, peerPort })
      const figures = readFigures(said, bytesPerSecond)
      return figures === undefined
        ? { kind: 'Failed', message: `the engine's ranks said no figures: ${said.slice(0, 200)}` }
        : { kind: 'Measured', ...figures }
    } finally {
      bench.release()
    }
  } catch (error) {
    if (error instanceof Yielded || error instanceof Refused) return { kind: 'NotDone', message: error.message }
    const message = messageOf(error)
    // The other rank went first: whatever that was, it is in its agent's log.
    if (message.includes('connection to a peer was lost'))
      return { kind: 'NotDone', message: `the rank on ${peer} ended before it was done` }
    return { kind: 'Failed', message: `the engine's rank ended: ${message}` }
  }
}

async function peerRank(ask: MeasureDoors['ask'], order: LinkOrder, port: number): Promise<number> {
  const { peer: node, peerAddress } = order
  const here = new URLSearchParams({ address: peerAddress, peerAddress: order.address, peerPort: String(port) })
  const signal = AbortSignal.timeout(KNOCK_MS)
  const { status, text } = await ask(
    { node, address: peerAddress, port: order.port },
    `/v1/measure/rank?${here}`,
    signal,
  )
  if (status === 409) throw new Refused(`the agent of ${node} does not measure now: ${text}`)
  if (status !== 200) throw new Error(`the agent of ${node} started none: ${text}`)
  return (JSON.parse(text) as { port: number }).port
}

/** A machine that is busy with something else makes a link look slower than it is: again, until two rounds agree. */
async function bestOf(round: () => Promise<number | undefined>): Promise<number | undefined> {
  let best: number | undefined
  for (let rounds = 0; rounds < ROUNDS_MAX; rounds += 1) {
    const rate = await round()
    if (rate === undefined) continue
    if (best !== undefined && Math.abs(rate - best) <= AGREE_SHARE * best) return Math.max(rate, best)
    best = Math.max(best ?? 0, rate)
  }
  return best
}

async function push(socket: Socket, clock: Clock): Promise<number | undefined> {
  await begun(socket)
  send(socket, clock)
  return told(socket)
}

async function stream(
  { ask, clock }: MeasureDoors,
  order: LinkOrder,
  kind: MeasuringKind,
  use: (socket: Socket) => Promise<number | undefined>,
): Promise<number | undefined> {
  const { port, ticket } = await knock(ask, order, kind)
  const socket = connect({ host: order.peerAddress, port, localAddress: order.address, noDelay: true })
  const failed = new Promise<never>((_, reject) => {
    socket.once('error', reject)
    socket.once('close', () => reject(new Error(`${order.peerAddress} hung up`)))
  })
  const tooLate = clock.after(STREAM_MS, () => socket.destroy(new Error(`${order.peerAddress} took too long`)))
  try {
    socket.write(ticket)
    return await Promise.race([use(socket), failed])
  } finally {
    failed.catch(() => {})
    tooLate.cancel()
    socket.destroy()
  }
}

async function knock(ask: MeasureDoors['ask'], order: LinkOrder, kind: MeasuringKind): Promise<Admission> {
  const { peer: node, peerAddress, port } = order
  const path = `/v1/measure/${kind}?address=${encodeURIComponent(peerAddress)}`
  const signal = AbortSignal.timeout(KNOCK_MS)
  const { status, text } = await ask({ node, address: peerAddress, port }, path, signal)
  if (status !== 200) throw new Refused(`the agent of ${node} does not measure now: ${text}`)
  return JSON.parse(text) as Admission
}

/** One byte says that the ticket was good. */
const begun = (socket: Socket): Promise<void> => new Promise((resolve) => void socket.once('data', () => resolve()))

/** What the other side says when it has seen enough. */
function told(socket: Socket): Promise<number | undefined> {
  return new Promise((resolve) => {
    let text = ''
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
    socket.once('end', () => resolve(Number(text) > 0 ? Number(text) : undefined))
  })
}

/** What a person can do about it, where we know. */
function explained(error: unknown, platform: NodeJS.Platform): string {
  const message = messageOf(error)
  if (platform !== 'darwin' || !message.includes('EHOSTUNREACH')) return message
  return `${message}: macOS keeps programs that a person starts from the local network; \`sudo mctl agent install\` makes the agent a system service, which may`
}
