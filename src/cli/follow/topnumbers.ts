/** The figures of `mctl top`, from objects and from what is live. Pure; what nobody has told is undefined. */
import type { LiveNode } from '../../api/live.ts'
import type { ModelDeployment } from '../../api/modeldeployment.ts'
import type { Node } from '../../api/node.ts'
import { tryParseBytes } from '../../lib/quantity.ts'
import type { LiveReply } from '../../rpc/messages.ts'

export interface NodeNumbers {
  readonly name: string
  readonly simulated: boolean
  readonly heartbeatAgeSeconds: number | undefined
  readonly gpuBusyShare: number | undefined
  readonly wiredBytes: number | undefined
  readonly usedBytes: number | undefined
  readonly freeBytes: number | undefined
  readonly boundBytes: number | undefined
  readonly allocatableBytes: number | undefined
  readonly capacityBytes: number | undefined
  /** Of the groups that have a rank here. */
  readonly tokensPerSecond: number | undefined
  readonly requestsInFlight: number | undefined
}

export interface ModelNumbers {
  readonly namespace: string
  readonly name: string
  readonly servedName: string
  readonly replicas: number
  readonly readyReplicas: number
  readonly tokensPerSecond: number | undefined
  readonly requestsInFlight: number | undefined
  /** Requests that its ready replicas take at once. */
  readonly places: number
  readonly requestsWaiting: number | undefined
}

export function nodeNumbers({ metadata, status }: Node, live: LiveReply): NodeNumbers {
  const { name } = metadata
  const { heardAgoMs, reading = {} } = live.nodes.find((node) => node.name === name) ?? ({} as Partial<LiveNode>)
  const groups = live.gateways === 0 ? undefined : live.groups.filter((group) => group.nodes.includes(name))
  return {
    name,
    simulated: reading.simulated === true,
    heartbeatAgeSeconds: heardAgoMs === undefined ? undefined : Math.floor(heardAgoMs / 1000),
    gpuBusyShare: reading.gpuBusy,
    wiredBytes: reading.wiredBytes,
    usedBytes: reading.usedBytes,
    freeBytes: reading.freeBytes,
    boundBytes: bytesOf(status?.bound?.memory),
    allocatableBytes: bytesOf(status?.allocatable?.memory),
    capacityBytes: bytesOf(status?.capacity?.memory),
    ...trafficOf(groups),
  }
}

export function modelNumbers({ metadata, spec, status }: ModelDeployment, live: LiveReply): ModelNumbers {
  const { name, namespace = '' } = metadata
  const isOwn = (part: { readonly namespace: string; readonly deployment: string }) =>
    part.namespace === namespace && part.deployment === name
  const readyReplicas = status?.readyReplicas ?? 0
  return {
    namespace,
    name,
    servedName: spec.servedName,
    replicas: spec.replicas,
    readyReplicas,
    ...trafficOf(live.gateways === 0 ? undefined : live.groups.filter(isOwn)),
    places: readyReplicas * spec.serving.concurrency,
    requestsWaiting: live.gateways === 0 ? undefined : (live.queues.find(isOwn)?.waiting ?? 0),
  }
}

const trafficOf = (groups: LiveReply['groups'] | undefined) => ({
  tokensPerSecond: groups && round(sum(groups.map((group) => group.tokensPerSecond))),
  requestsInFlight: groups && sum(groups.map((group) => group.inFlight)),
})

const sum = (values: readonly number[]): number => values.reduce((all, value) => all + value, 0)
const round = (value: number): number => Math.round(value * 10) / 10
const bytesOf = (quantity: string | undefined): number | undefined =>
  quantity === undefined ? undefined : tryParseBytes(quantity)

/** What a person should know of figures that are missing or old; one line each, none when all is told. */
export function remarksOn(nodes: readonly NodeNumbers[], live: LiveReply): readonly string[] {
  const namesWhere = (isSo: (node: LiveNode) => boolean): readonly string[] =>
    live.nodes.filter((node) => isSo(node) && nodes.some(({ name }) => name === node.name)).map(({ name }) => name)
  const never = namesWhere(({ heardAgoMs, connected }) => !connected && heardAgoMs === undefined)
  const gone = namesWhere(({ heardAgoMs, connected }) => !connected && heardAgoMs !== undefined)
  const fresh = namesWhere(({ connected, reading }) => connected && reading === undefined)
  const simulated = namesWhere(({ reading }) => reading?.simulated === true)
  return [
    ...told(never, (names) => `${names} not been heard of since the server started; ${DESCRIBE}`, 'has', 'have'),
    ...told(gone, (names) => `${names} not in contact now; ${DESCRIBE}`, 'is', 'are'),
    ...told(fresh, (names) => `${names} not reported yet; try again in some seconds`, 'has', 'have'),
    ...told(simulated, (names) => `${names} simulated: live memory and GPU are not told`, 'is', 'are'),
  ]
}

const DESCRIBE = '`mctl describe node` says what is wrong and what to do'

const told = (names: readonly string[], sentence: (names: string) => string, one: string, more: string) =>
  names.length === 0
    ? []
    : [sentence(`${names.length === 1 ? 'node' : 'nodes'} ${names.join(', ')} ${names.length === 1 ? one : more}`)]

export const NO_GATEWAY = 'no gateway has told of its traffic: tokens per second and requests are unknown'
