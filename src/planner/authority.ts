/**
 * How a cluster changes its authority: everybody who lives comes to trust the new one beside the old; then the new one
 * signs, and agents renew by themselves; when nobody lives on the old one any more, it may be retired. Pure.
 */
import { authorityPhase, signingOf } from '../api/authority.ts'
import type { Authority, AuthorityPhase, Holdup } from '../api/authority.ts'
import { findCondition } from '../api/conditions.ts'
import { timestamp } from '../api/meta.ts'
import type { Node } from '../api/node.ts'
import type { User } from '../api/trust.ts'
import type { Plan, StoreAction } from './actions.ts'
import { event, remove, setStatus } from './actions.ts'

export interface TrustWorld {
  readonly authorities: readonly Authority[]
  readonly nodes: readonly Node[]
  readonly users: readonly User[]
  /** Those that told of themselves a moment ago. */
  readonly gateways: readonly { readonly gateway: string; readonly trusts?: readonly string[] }[]
  /** This process has run long enough to have heard of every living gateway. */
  readonly isSettled: boolean
}

const DAY_MS = 86_400_000
/** A gateway shows what it is to show after two seconds; agents that trust the old one no more come after it. */
const RETIRING_MS = 10_000
/** A first look at gateways that were not told of by a commit. */
const LOOK_MS = 1_000
/** An authority's end is told so long before: in time for everybody to be at hand. */
export const AUTHORITY_WARNING_MS = 365 * DAY_MS

/** The next step of a change of authority, if there is one and nothing stands against it. */
export function planAuthorities(world: TrustWorld, nowMs: number): Plan {
  const { authorities, isSettled } = world
  const introduced = authorities.find((one) => authorityPhase(one) === 'Introduced')
  const signing = signingOf(authorities)
  const outgoing = authorities.find((one) => authorityPhase(one) === 'Outgoing')
  if (introduced !== undefined && signing !== undefined) {
    const waitingFor = strangersTo(introduced, world)
    if (waitingFor.length > 0 || !isSettled)
      return { actions: told(introduced, waitingFor), report: waitingFor.map(sentence), waitMs: LOOK_MS }
    const { name } = introduced.metadata
    const actions = [
      into(introduced, 'Signing', nowMs),
      into(signing, 'Outgoing', nowMs),
      event(introduced, 'Normal', 'AuthoritySigns', `everybody trusts authority "${name}": it signs from now on`),
    ]
    return { actions, report: [`authority "${name}" signs`] }
  }
  const retiring = authorities.find((one) => authorityPhase(one) === 'Retiring')
  if (retiring !== undefined) return planRetirement(retiring, nowMs)
  if (outgoing === undefined || signing === undefined) return { actions: [], report: [] }
  const waitingFor = holdersOf(outgoing, signing, world, nowMs)
  const wasWaiting = outgoing.status?.waitingFor !== undefined && outgoing.status.waitingFor.length > 0
  const done =
    waitingFor.length === 0 && wasWaiting
      ? [event(outgoing, 'Normal', 'AuthorityUnused', 'nobody lives on it any more: mctl authority retire')]
      : []
  return { actions: [...told(outgoing, waitingFor), ...done], report: waitingFor.map(sentence), waitMs: LOOK_MS }
}

function planRetirement(retiring: Authority, nowMs: number): Plan {
  const { name } = retiring.metadata
  const leftMs = Date.parse(retiring.status?.since ?? '') + RETIRING_MS - nowMs
  // A clock that was set back is no reason to wait for longer.
  if (leftMs > 0 && leftMs <= RETIRING_MS)
    return { actions: [], report: [`authority "${name}" is gone in ${leftMs} ms`], waitMs: leftMs }
  return { actions: [remove(retiring)], report: [`authority "${name}" is gone`] }
}

export const sentence = ({ kind, name, reason, remedy }: Holdup): string =>
  `${kind.toLowerCase()} "${name}": ${reason}. ${remedy}`

const into = (authority: Authority, phase: AuthorityPhase, nowMs: number): StoreAction =>
  setStatus(authority, { phase, since: timestamp(nowMs) })

/** Written only when it is news. */
function told(authority: Authority, waitingFor: readonly Holdup[]): readonly StoreAction[] {
  const { status } = authority
  if (JSON.stringify(status?.waitingFor ?? []) === JSON.stringify(waitingFor)) return []
  const { phase, since } = { phase: authorityPhase(authority), since: authority.metadata.creationTimestamp, ...status }
  return [setStatus(authority, { phase, since, ...(waitingFor.length === 0 ? {} : { waitingFor }) })]
}

/** Who lives and does not trust it yet. Nodes that are away do not count: they learn of it when they come back. */
function strangersTo({ spec }: Authority, { nodes, gateways }: TrustWorld): readonly Holdup[] {
  const unaware = nodes.filter((node) => isReady(node) && !trusts(node.status?.trust?.trusts, spec.fingerprint))
  return [
    ...unaware.map(({ metadata, status }): Holdup =>
      status?.trust?.trusts === undefined
        ? {
            kind: 'Node',
            name: metadata.name,
            reason: 'its agent is of a version that knows one authority only',
            remedy: 'Upgrade it; its shards run on',
          }
        : {
            kind: 'Node',
            name: metadata.name,
            reason: 'its agent does not trust the new authority yet',
            remedy: 'It asks by itself within seconds; if it does not, its log says why',
          },
    ),
    ...gatewaysWithout(spec.fingerprint, gateways),
  ]
}

/** Who would be shut out if the outgoing authority were gone. */
export function holdersOf(
  outgoing: Authority,
  signing: Authority,
  { nodes, users, gateways }: TrustWorld,
  nowMs: number,
): readonly Holdup[] {
  return [
    ...nodes.flatMap((node) => nodeHolding(node, outgoing, signing, nowMs) ?? []),
    ...users.flatMap((user) => userHolding(user, outgoing, nowMs) ?? []),
    ...gatewaysWithout(signing.spec.fingerprint, gateways),
  ]
}

function nodeHolding(node: Node, outgoing: Authority, signing: Authority, nowMs: number): Holdup | undefined {
  const { name } = node.metadata
  const { trust } = node.status ?? {}
  const isNew = trust?.authority !== outgoing.metadata.name && trusts(trust?.trusts, signing.spec.fingerprint)
  // Who cannot come back with it anyway loses nothing.
  const isOver = trust !== undefined && Date.parse(trust.expiresAt) <= nowMs
  if (isNew || isOver) return undefined
  return isReady(node)
    ? {
        kind: 'Node',
        name,
        reason: 'its certificate is of the old authority',
        remedy: 'It renews by itself within seconds; if it does not, its log says why',
      }
    : {
        kind: 'Node',
        name,
        reason: 'it is away, and its certificate is of the old authority',
        remedy: `Start its agent, which then renews by itself, or take it out: mctl delete node ${name}`,
      }
}

/** People do not renew by themselves. Of certificates that were issued before they were remembered the worst is believed. */
function userHolding({ metadata, status }: User, outgoing: Authority, nowMs: number): Holdup | undefined {
  const { name } = metadata
  // The admin's own context is the server's to write, in its data folder.
  if (status === undefined && name === 'admin') return undefined
  const isOld = (status?.certificates ?? []).some(
    ({ authority, expiresAt }) => authority === outgoing.metadata.name && Date.parse(expiresAt) > nowMs,
  )
  if (status !== undefined && !isOld) return undefined
  const remedy = `They run \`mctl config renew\`; or shut them out: mctl user delete ${name}`
  return { kind: 'User', name, reason: 'a certificate of theirs is of the old authority', remedy }
}

function gatewaysWithout(fingerprint: string, gateways: TrustWorld['gateways']): readonly Holdup[] {
  return gateways
    .filter((gateway) => !trusts(gateway.trusts, fingerprint))
    .map(({ gateway, trusts: known }) => ({
      kind: 'Gateway',
      name: gateway,
      reason: 'it does not trust the new authority yet',
      remedy:
        known === undefined
          ? 'It is of an older version: stop it, and the server starts its own anew'
          : 'It takes it up within seconds; if it does not, gateway.log says why',
    }))
}

const trusts = (known: readonly string[] | undefined, fingerprint: string): boolean =>
  known?.includes(fingerprint) === true

const isReady = ({ status }: Node): boolean => findCondition(status?.conditions, 'Ready')?.status === 'True'

/** May the authority be taken away? undefined: yes. Else why not, and what there is to do. */
export function retireObjection(
  target: Authority,
  world: TrustWorld,
  { force, nowMs }: { readonly force: boolean; readonly nowMs: number },
): string | undefined {
  const { name } = target.metadata
  const signing = signingOf(world.authorities)
  if (authorityPhase(target) === 'Introduced') return undefined
  if (authorityPhase(target) === 'Retiring') return `authority "${name}" is being retired: it is gone in a moment`
  if (authorityPhase(target) === 'Signing' || signing === undefined)
    return `authority "${name}" signs the cluster's certificates: begin with \`mctl authority rotate\``
  const holders = force ? [] : holdersOf(target, signing, world, nowMs)
  if (holders.length === 0) return undefined
  const listed = holders.map((holder) => `\n  ${sentence(holder)}`).join('')
  return `authority "${name}" is still lived on, and whoever is left would have to join anew:${listed}\nWait for them, or shut them out with --force`
}

/** What to say of an authority that ends soon; undefined: there is time. */
export function expiryWarning(authorities: readonly Authority[], nowMs: number): string | undefined {
  const signing = signingOf(authorities)
  if (signing === undefined) return undefined
  const leftMs = Date.parse(signing.spec.expiresAt) - nowMs
  if (leftMs > AUTHORITY_WARNING_MS) return undefined
  const when = leftMs <= 0 ? 'has ended' : `ends in ${Math.ceil(leftMs / DAY_MS)} days`
  return `the cluster's authority "${signing.metadata.name}" ${when}, and with it every certificate: mctl authority rotate`
}
