/** What is written of one measurement: into both ends of the link, where it says something new, and as an event. Pure. */
import type { LinkMeasurement } from '../../api/links.ts'
import type { Node, NodeLink } from '../../api/node.ts'
import type { StoreAction } from '../actions.ts'
import { event, setStatus } from '../actions.ts'
import type { LinkEnds, Tried } from './measure.ts'
import { figuresText, withMeasurement } from './figures.ts'
import { linkText } from './plan.ts'

export interface Measured {
  readonly ends: LinkEnds
  readonly found: LinkMeasurement
  readonly tried: Tried
  /** RFC 3339. */
  readonly measuredAt: string
}

/** Nothing for a link that is no more what was measured: it has other addresses by now. */
export function recordActions(nodes: readonly Node[], measured: Measured): readonly StoreAction[] {
  const { from, to, address, peerAddress } = measured.ends
  const back = { from: to, to: from, address: peerAddress, peerAddress: address }
  return [measured.ends, back].flatMap((ends) => {
    const node = nodes.find(({ metadata }) => metadata.name === ends.from)
    return node === undefined ? [] : recordAt(node, ends, measured)
  })
}

function recordAt(node: Node, ends: LinkEnds, { found, tried, measuredAt }: Measured): readonly StoreAction[] {
  const before = node.status?.links ?? []
  const isMeant = ({ peer, transport, address, peerAddress }: NodeLink) =>
    peer === ends.to && transport === 'TCP' && address === ends.address && peerAddress === ends.peerAddress
  const links = before.map((link) => (isMeant(link) ? withMeasurement(link, found, tried.failures, measuredAt) : link))
  const news = links.find((link, i) => link !== before[i])
  const old = before.find(isMeant)
  if (news === undefined || old === undefined) return []
  return [setStatus(node, { ...node.status, links }), newsEvent(node, old, news)]
}

function newsEvent(node: Node, old: NodeLink, link: NodeLink): StoreAction {
  if (link.failure !== undefined)
    return event(node, 'Warning', 'LinkFailed', `${linkText(link)} is not used: ${link.failure}`)
  const [now, before] = [figuresText(link), figuresText(old)]
  const why = link.notMeasured === undefined ? '' : `, all-reduce and hop not measured: ${link.notMeasured}`
  if (old.failure === undefined && now === before)
    return event(node, 'Normal', 'LinkNotMeasured', `${linkText(link)}: ${now}${why}`)
  const first = old.bandwidthGBps === undefined && old.failure === undefined
  const was = old.failure !== undefined ? ', was not reached before' : first ? '' : `, was ${before}`
  return event(node, 'Normal', first ? 'LinkMeasured' : 'LinkChanged', `${linkText(link)}: ${now}${was}${why}`)
}
