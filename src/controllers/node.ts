/**
 * The loop of Nodes: turns contact (which never touches the store) into the Ready condition, and keeps allocatable and
 * bound. Between changes it looks again only when silence alone could change the answer.
 */
import type { ShardGroup } from '../api/shardgroup.ts'
import type { MctlObject } from '../api/meta.ts'
import { keyString, parseKey } from '../api/meta.ts'
import { AwakeTime } from '../lib/awake.ts'
import { every } from '../lib/clock.ts'
import { drainCondition } from '../planner/drain.ts'
import { boundBytes } from '../planner/ledger.ts'
import type { NodeContact } from '../planner/nodelife.ts'
import { planNodeLife } from '../planner/nodelife.ts'
import type { Change } from '../store/store.ts'
import { isOfKind } from './changes.ts'
import type { ControllerDoors, Loop } from './controller.ts'
import { keyFor } from './controller.ts'
import { perform } from './perform.ts'

const LOOK_MS = 5_000

const nodeKey = (name: string): string => keyString({ kind: 'Node', namespace: '', name })

export function nodeLoop(doors: ControllerDoors): Loop {
  const contacts = new Contacts(doors)
  return {
    name: 'node',
    allKeys: (snapshot) => snapshot.list('Node').map(keyFor),
    keysOf,
    listen(wake) {
      const over = new AbortController()
      void every(doors.clock, LOOK_MS, over.signal, () => contacts.look())
      const unsubscribe = doors.sessions.onChange((node) => wake(nodeKey(node)))
      return () => {
        over.abort()
        unsubscribe()
      }
    },
    async reconcile(key) {
      const { name } = parseKey(key)
      const contact = contacts.of(name)
      return doors.store.transact((tx) => {
        const node = tx.get('Node', '', name)
        if (node === undefined) return undefined
        const ledger = { groups: tx.list('ShardGroup'), shards: tx.list('Shard') }
        const bound = boundBytes(ledger).get(name) ?? 0
        const drained = drainCondition(node, ledger.groups, ledger.shards)
        const plan = planNodeLife({ node, contact, boundBytes: bound, nowMs: tx.nowMs, ...(drained && { drained }) })
        perform(tx, plan.actions)
        return plan.waitMs
      })
    },
  }
}

/** How long ago each node was heard of and fenced. Kept here because a session only knows its present state. */
class Contacts {
  readonly #doors: ControllerDoors
  #startedMs: number
  readonly #awake: AwakeTime
  readonly #syncedMs = new Map<string, number>()

  constructor(doors: ControllerDoors) {
    this.#doors = doors
    this.#startedMs = doors.clock.monotonicMs()
    this.#awake = new AwakeTime(doors.clock, LOOK_MS)
  }

  /** While this machine slept nobody could be heard: what follows is a start like any other, with its grace. */
  look(): void {
    const lostMs = this.#awake.look()
    if (lostMs === 0) return
    this.#startedMs = this.#doors.clock.monotonicMs()
    this.#doors.log.warn('this process stood still: agents have a minute to be heard again', { lostMs })
  }

  of(node: string): NodeContact {
    this.look()
    const { sessions, clock } = this.#doors
    const nowMs = clock.monotonicMs()
    const seenMs = sessions.lastSeenMs(node)
    if (seenMs !== undefined && sessions.synced(node)) this.#syncedMs.set(node, seenMs)
    const ago = (ms: number | undefined) => (ms === undefined ? undefined : nowMs - ms)
    return {
      seenAgoMs: ago(seenMs),
      syncedAgoMs: ago(this.#syncedMs.get(node)),
      startedAgoMs: nowMs - this.#startedMs,
    }
  }
}

function keysOf({ type, object, previous }: Change): readonly string[] {
  if (isOfKind(object, 'Node')) return type === 'DELETED' ? [] : [keyFor(object)]
  if (isOfKind(object, 'ShardGroup')) return [...nodesIn(object), ...nodesIn(previous)].map(nodeKey)
  if (isOfKind(object, 'Shard') && type !== 'MODIFIED') return [nodeKey(object.spec.nodeName)]
  return []
}

function nodesIn(object: MctlObject | undefined): readonly string[] {
  if (object === undefined) return []
  const { spec } = object as ShardGroup
  return [...new Set([...spec.members, ...(spec.next?.members ?? [])].map((m) => m.node))]
}
