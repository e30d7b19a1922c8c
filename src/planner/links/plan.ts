/** What is written of links when ports came, went or changed: each node's links where they differ, and one event of it. */
import { isDeepStrictEqual } from 'node:util'
import type { Node, NodeLink } from '../../api/node.ts'
import type { Plan } from '../actions.ts'
import { event, setStatus } from '../actions.ts'
import { isSameLink, matchLinks } from './match.ts'

export function planLinks(nodes: readonly Node[]): Plan {
  const links = matchLinks(nodes)
  const changed = nodes.flatMap((node) => {
    const found = links.get(node.metadata.name)
    return found === undefined || isDeepStrictEqual(found, node.status?.links ?? []) ? [] : [{ node, found }]
  })
  return {
    actions: changed.flatMap(({ node, found }) => [
      setStatus(node, { ...node.status, links: found }),
      ...changeEvent(node, found),
    ]),
    report: changed.map(({ node, found }) => `${node.metadata.name}: ${found.length} links`),
  }
}

function changeEvent(node: Node, found: readonly NodeLink[]) {
  const before = node.status?.links ?? []
  const lost = before.filter((link) => !found.some((other) => isSameLink(link, other)))
  const come = found.filter((link) => !before.some((other) => isSameLink(link, other)))
  if (lost.length + come.length === 0) return []
  const parts = [...lost.map((link) => `lost ${linkText(link)}`), ...come.map((link) => `found ${linkText(link)}`)]
  return [event(node, lost.length > 0 ? 'Warning' : 'Normal', 'LinksChanged', parts.join('; '))]
}

/** Thunderbolt4 to mini-2 (10.0.0.1 – 10.0.0.2) */
export const linkText = ({ peer, type, transport, address, peerAddress }: NodeLink): string =>
  `${type}${transport === 'RDMA' ? ' (RDMA)' : ''} to ${peer}` +
  (address === undefined || peerAddress === undefined ? '' : ` (${address} – ${peerAddress})`)
