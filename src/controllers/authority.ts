/** The loop of authorities: one key, for a change of authority concerns everybody. */
import { keyString } from '../api/meta.ts'
import type { Traffic } from '../api/live.ts'
import type { Node } from '../api/node.ts'
import type { TrustWorld } from '../planner/authority.ts'
import { expiryWarning, planAuthorities } from '../planner/authority.ts'
import { findCondition } from '../api/conditions.ts'
import type { Change, Snapshot } from '../store/store.ts'
import { isOfKind } from './changes.ts'
import type { ControllerDoors, Loop } from './controller.ts'
import { perform } from './perform.ts'

const AUTHORITIES = keyString({ kind: 'Authorities', namespace: '', name: 'all' })
/** A living gateway tells of itself every two seconds. */
const SETTLED_MS = 10_000
const WARN_EVERY_MS = 86_400_000

export function authorityLoop({ store, clock, log, gateways = () => [] }: ControllerDoors): Loop {
  const startedMs = clock.monotonicMs()
  let warnedMs = -Infinity
  return {
    name: 'authority',
    allKeys: () => [AUTHORITIES],
    keysOf: (change) => (changesTrust(change) ? [AUTHORITIES] : []),
    async reconcile() {
      const snapshot = store.snapshot()
      const warning = expiryWarning(snapshot.list('Authority'), clock.nowMs())
      if (warning !== undefined && clock.monotonicMs() - warnedMs >= WARN_EVERY_MS) {
        warnedMs = clock.monotonicMs()
        log.warn(warning)
      }
      if (snapshot.list('Authority').length < 2) return undefined
      const isSettled = clock.monotonicMs() - startedMs >= SETTLED_MS
      return store.transact((tx) => {
        const plan = planAuthorities(trustWorld(tx, gateways(), isSettled), tx.nowMs)
        perform(tx, plan.actions)
        return plan.waitMs
      })
    },
  }
}

/** What a step of a change of authority looks at. */
const trustWorld = (snapshot: Snapshot, gateways: readonly Traffic[], isSettled: boolean): TrustWorld => ({
  authorities: snapshot.list('Authority'),
  nodes: snapshot.list('Node'),
  users: snapshot.list('User'),
  gateways,
  isSettled,
})

function changesTrust({ type, object, previous }: Change): boolean {
  if (isOfKind(object, 'Authority') || isOfKind(object, 'User')) return true
  if (!isOfKind(object, 'Node')) return false
  const before = previous as Node | undefined
  return type !== 'MODIFIED' || trustOf(object) !== trustOf(before)
}

const trustOf = (node: Node | undefined): string =>
  JSON.stringify([node?.status?.trust, findCondition(node?.status?.conditions, 'Ready')?.status])
