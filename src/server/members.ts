/** Whose certificates count, for agents that open doors to each other: deleting a Node shuts it out there, too. Pure. */
import type { Node } from '../api/node.ts'
import type { Member } from '../api/peers.ts'
import { RESET_ANNOTATION } from '../api/trust.ts'
import type { Change, Snapshot } from '../store/store.ts'

export const membersOf = (snapshot: Snapshot): readonly Member[] =>
  snapshot.list('Node').map((node) => {
    const validFromMs = resetMs(node)
    return {
      node: node.metadata.name,
      uid: node.metadata.uid,
      ...(validFromMs === undefined ? {} : { validFromMs }),
    }
  })

/** Does the change make another list? Most changes of Nodes are of their status. */
export const changesMembers = ({ type, object, previous }: Change): boolean =>
  object.kind === 'Node' && (type !== 'MODIFIED' || resetMs(object as Node) !== resetMs(previous as Node | undefined))

function resetMs(node: Node | undefined): number | undefined {
  const ms = Date.parse(node?.metadata.annotations?.[RESET_ANNOTATION] ?? '')
  return Number.isNaN(ms) ? undefined : ms
}
