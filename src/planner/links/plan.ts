/**
 * What is written when ports came, went or changed: each node's links and the addresses of its cables where they
 * differ, and one event of what changed of links.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Node, NodeCable, NodeLink, NodeStatus } from '../../api/node.ts'
import type { Plan } from '../actions.ts'
import { event, setStatus } from '../actions.ts'
import { assignCables } from './cables.ts'
import { isSameLink, matchLinks } from './match.ts'

export function planLinks(nodes: readonly Node[]): Plan {
  const links = matchLinks(nodes)
  const cables = assignCables(nodes)
  const changed = nodes.flatMap((node) => {
    const found = links.get(node.metadata.name)
    if (found === undefined) return []
    const { links: before = [], cables: given = [] } = node.status ?? {}
    const own = cables.get(node.metadata.name) ?? []
    return isDeepStrictEqual([found, own], [before, given]) ? [] : [{ node, found, own }]
  })
  return {
    actions: changed.flatMap(({ node, found, own }) => [
      setStatus(node, withLinks(node.status, found, own)),
      ...changeEvent(node, found),
    ]),
    report: changed.map(({ node, found, own }) => `${node.metadata.name}: ${found.length} links, ${own.length} cables`),
  }
}

/** Of a node without cables nothing is said of them. */
function withLinks(
  { cables: _, ...status }: NodeStatus = {},
  links: readonly NodeLink[],
  cables: readonly NodeCable[],
) {
  return { ...status, links, ...(cables.length === 0 ? {} : { cables }) }
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
