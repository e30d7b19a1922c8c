/** The loop of links: one key, for a link is of two nodes. Woken when what a node can be reached by changes. */
import { isDeepStrictEqual } from 'node:util'
import { keyString } from '../api/meta.ts'
import type { Node } from '../api/node.ts'
import { planLinks } from '../planner/links/plan.ts'
import type { Change } from '../store/store.ts'
import { isOfKind } from './changes.ts'
import type { ControllerDoors, Loop } from './controller.ts'
import { perform } from './perform.ts'

const LINKS = keyString({ kind: 'Links', namespace: '', name: 'all' })

export const linksLoop = ({ store }: ControllerDoors): Loop => ({
  name: 'links',
  allKeys: () => [LINKS],
  keysOf: (change) => (changesLinks(change) ? [LINKS] : []),
  reconcile: () =>
    store.transact((tx) => {
      perform(tx, planLinks(tx.list('Node')).actions)
      return undefined
    }),
})

function changesLinks({ type, object, previous }: Change): boolean {
  if (!isOfKind(object, 'Node')) return false
  const { ports, networks, addresses } = object.status ?? {}
  if (type !== 'MODIFIED') return ports !== undefined || type === 'DELETED'
  const before = (previous as Node | undefined)?.status
  return !isDeepStrictEqual([ports, networks, addresses], [before?.ports, before?.networks, before?.addresses])
}
