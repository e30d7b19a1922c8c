/**
 * What `/metrics` tells Prometheus of the control plane. Gauges are read from the store when asked, so a restarted server
 * tells the same; counters begin with the process.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import { isTrue } from '../api/conditions.ts'
import { kindNames, kinds } from '../api/kinds.ts'
import type { Condition } from '../api/meta.ts'
import type { ObjectOf } from '../api/objects.ts'
import { tryParseBytes } from '../lib/quantity.ts'
import type { Snapshot, Store } from '../store/store.ts'
import type { Sessions } from './sessions.ts'

export interface ServerMetrics {
  /** A unary call ended: `code` is OK, or the code of the OpError. */
  onCall(rpc: string, code: string, durationMs: number): void
  /** A controller worked one key. */
  onPass(controller: string, failed: boolean, durationMs: number): void
  text(): Promise<string>
}

export function createServerMetrics(store: Store, sessions: Pick<Sessions, 'connected'>): ServerMetrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  for (const { name, help, labelNames, read } of gauges)
    new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers,
      collect() {
        this.reset()
        for (const [labels, value] of read(store.snapshot())) this.set(labels, value)
      },
    })
  const single = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  single('mctl_server_revision', 'Position in the log.', () => store.stats().revision)
  single('mctl_server_log_rows', 'Changes that the log still holds.', () => store.stats().logRows)
  single('mctl_server_sessions', 'Agents in session.', () => sessions.connected().length)
  const calls = new Histogram({
    name: 'mctl_server_call_duration_seconds',
    help: 'Unary calls by name and answer.',
    labelNames: ['call', 'code'],
    buckets: [0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5],
    registers,
  })
  const passes = new Histogram({
    name: 'mctl_controller_pass_duration_seconds',
    help: 'Passes of the control loops, one key each: snapshot, plan, write.',
    labelNames: ['controller'],
    buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10],
    registers,
  })
  const failures = new Counter({
    name: 'mctl_controller_failures_total',
    help: 'Passes that failed; each is tried again.',
    labelNames: ['controller'],
    registers,
  })
  return {
    onCall: (call, code, durationMs) => calls.observe({ call, code }, durationMs / 1000),
    onPass(controller, failed, durationMs) {
      passes.observe({ controller }, durationMs / 1000)
      if (failed) failures.inc({ controller })
    },
    text: () => registry.metrics(),
  }
}

interface ObjectGauge {
  readonly name: string
  readonly help: string
  readonly labelNames: readonly string[]
  read(snapshot: Snapshot): readonly (readonly [labels: Readonly<Record<string, string>>, value: number])[]
}

/** One figure of each object of a kind; undefined: this object has none. */
function each<K extends keyof ObjectOf>(
  kind: K,
  name: string,
  help: string,
  value: (object: ObjectOf[K]) => number | undefined,
): ObjectGauge {
  const label = kinds[kind].singular
  const { namespaced } = kinds[kind]
  return {
    name: `mctl_${label}_${name}`,
    help,
    labelNames: namespaced ? ['namespace', label] : [label],
    read: (snapshot) =>
      snapshot.list(kind).flatMap((object) => {
        const figure = value(object)
        const { name, namespace = '' } = object.metadata
        const labels: Record<string, string> = { ...(namespaced ? { namespace } : {}), [label]: name }
        return figure === undefined ? [] : [[labels, figure] as const]
      }),
  }
}

const bytesOf = (quantity: { readonly memory: string } | undefined) =>
  quantity === undefined ? undefined : tryParseBytes(quantity.memory)
const ready = ({ status }: { readonly status?: { readonly conditions?: readonly Condition[] } }) =>
  isTrue(status?.conditions, 'Ready') ? 1 : 0

const gauges: readonly ObjectGauge[] = [
  {
    name: 'mctl_server_objects',
    help: 'Objects by kind.',
    labelNames: ['kind'],
    read: (snapshot) => kindNames.map((kind) => [{ kind }, snapshot.list(kind).length] as const),
  },
  each('Node', 'ready', '1: its agent is in contact, and it takes shards.', ready),
  each('Node', 'allocatable_bytes', 'Memory that it may promise.', ({ status }) => bytesOf(status?.allocatable)),
  each('Node', 'bound_bytes', 'Memory that it has promised.', ({ status }) => bytesOf(status?.bound)),
  each('ModelDeployment', 'replicas', 'Replicas asked for.', ({ spec }) => spec.replicas),
  each('ModelDeployment', 'ready_replicas', 'Replicas that answer.', ({ status }) => status?.readyReplicas ?? 0),
  each('ShardGroup', 'ready', '1: it answers.', ready),
  each('ShardGroup', 'epoch', 'Its incarnation: it grows by one with each restart or move.', ({ spec }) => spec.epoch),
]
