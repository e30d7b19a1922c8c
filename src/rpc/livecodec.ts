/** What is live on the wire: readings of machines, traffic of gateways, and the server's account of both. */
import type { LiveNode, LiveReading, Traffic } from '../api/live.ts'
import { defined } from './fields.ts'
import type { LiveReply } from './messages.ts'

export type ReadingWire = { -readonly [F in keyof Omit<LiveReading, 'pressure'>]: LiveReading[F] } & {
  pressure?: string
}

export function encodeReading(reading: LiveReading): ReadingWire {
  const { freeBytes, pressure, wiredBytes, usedBytes, gpuBusy, simulated } = reading
  return defined({ freeBytes, pressure, wiredBytes, usedBytes, gpuBusy, simulated })
}

/** A word that we do not know is left out: a newer agent may have more of them. */
export function readingOf({ pressure: word, ...wire }: ReadingWire): LiveReading {
  const { freeBytes, wiredBytes, usedBytes, gpuBusy, simulated } = wire
  const pressure = (['Normal', 'Warn', 'Critical'] as const).find((p) => p === word)
  return defined({ freeBytes, pressure, wiredBytes, usedBytes, gpuBusy, simulated })
}

type Parts<T> = { readonly [K in keyof T]?: T[K] extends readonly (infer I)[] ? readonly Partial<I>[] : T[K] }
export type TrafficWire = Parts<Traffic>

export const trafficOf = ({ gateway = '', replicas = [], queues = [], trusts = [] }: TrafficWire): Traffic => ({
  gateway,
  ...(trusts.length === 0 ? {} : { trusts: trusts as readonly string[] }),
  replicas: replicas.map(({ shardUid = '', inFlight = 0, tokensPerSecond = 0 }) => ({
    ...{ shardUid, inFlight, tokensPerSecond },
  })),
  queues: queues.map(({ servedName = '', waiting = 0 }) => ({ servedName, waiting })),
})

type NodeWire = Partial<Omit<LiveNode, 'reading'>> & { reading?: ReadingWire }
export type LiveReplyWire = Omit<Parts<LiveReply>, 'nodes'> & { nodes?: readonly NodeWire[] }

export const encodeLive = ({ nodes, ...reply }: LiveReply): LiveReplyWire => ({
  ...reply,
  nodes: nodes.map(({ name, heardAgoMs, connected, reading }) =>
    defined({ name, connected, heardAgoMs, reading: reading && encodeReading(reading) }),
  ),
})

export const liveOf = ({ nodes = [], groups = [], queues = [], gateways = 0 }: LiveReplyWire): LiveReply => ({
  gateways,
  nodes: nodes.map(({ name = '', connected = false, heardAgoMs, reading }) => ({
    name,
    connected,
    ...defined({ heardAgoMs, reading: reading && readingOf(reading) }),
  })),
  groups: groups.map(
    ({ namespace = '', name = '', deployment = '', nodes: at = [], inFlight = 0, tokensPerSecond = 0 }) => ({
      ...{ namespace, name, deployment, nodes: at, inFlight, tokensPerSecond },
    }),
  ),
  queues: queues.map(({ namespace = '', deployment = '', waiting = 0 }) => ({ namespace, deployment, waiting })),
})
