/**
 * ChangeAuthority: begins a change of the cluster's authority, or ends one. What lies between goes by itself (see
 * src/planner/authority.ts). The key is in its file before anybody is told of it, so a crash leaves a file that the next
 * start removes, or a change that goes on.
 */
import type { Authority } from '../../api/authority.ts'
import { shownOf } from '../../api/authority.ts'
import { timestamp } from '../../api/meta.ts'
import { tokenState } from '../../api/trust.ts'
import { OpError } from '../../lib/errors.ts'
import { retireObjection, sentence } from '../../planner/authority.ts'
import type { TrustWorld } from '../../planner/authority.ts'
import type { ChangeAuthorityReply, ChangeAuthorityRequest, Handlers, Identity } from '../../rpc/messages.ts'
import { involvedObjectOf, recordEvent, setStatus } from '../../store/objects.ts'
import type { Snapshot, Tx } from '../../store/store.ts'
import { audited } from '../audit.ts'
import type { GatewayTraffic } from '../live.ts'
import { recordAuthority } from './authority.ts'
import type { TrustDoors } from './join.ts'
import { authorityOf } from './join.ts'

export interface RotationDoors extends TrustDoors {
  readonly gateways: Pick<GatewayTraffic, 'now'>
}

export function rotationCalls(doors: RotationDoors): Pick<Handlers, 'changeAuthority'> {
  // One at a time: two callers would write one file.
  let last: Promise<unknown> = Promise.resolve()
  return {
    async changeAuthority(request, { identity }) {
      authorityOf(doors)
      checkAdmin(identity)
      const change = () => (request.action === 'Rotate' ? rotate(doors, identity) : retire(doors, identity, request))
      const next = last.then(change)
      last = next.catch(() => {})
      return next
    },
  }
}

function checkAdmin({ user, role, node, anonymous }: Identity): void {
  if (role === 'admin' && node === undefined && anonymous !== true) return
  throw new OpError('Forbidden', `"${user}" may not change the cluster's authority: only an admin may`)
}

async function rotate(doors: RotationDoors, identity: Identity): Promise<ChangeAuthorityReply> {
  const { store, log } = doors
  const authority = authorityOf(doors)
  checkIdle(store.snapshot().list('Authority'))
  const key = await authority.makeNextKey()
  const target = { kind: 'Authority', name: key.name }
  await audited(log, { identity, verb: 'rotate', target }, () =>
    store.transact((tx) => {
      checkIdle(tx.list('Authority'))
      const object = recordAuthority(tx, key, 'Introduced')
      tell(tx, object, 'AuthorityIntroduced', 'agents and gateways come to trust it; then it signs')
      return { object }
    }),
  )
  return {
    name: key.name,
    notes: [
      'Agents take it up by themselves, and renew when everybody trusts it: mctl authority get',
      'People run `mctl config renew` once it signs. Programs need the new authority.crt of the server’s data folder before the old one is retired.',
      'Then: mctl authority retire',
    ],
  }
}

function checkIdle(authorities: readonly Authority[]): void {
  if (authorities.length < 2) return
  const [newest] = [...authorities].sort((a, b) =>
    a.metadata.creationTimestamp < b.metadata.creationTimestamp ? 1 : -1,
  )
  throw new OpError(
    'Conflict',
    `the cluster is changing to authority "${newest?.metadata.name}" already. See how far it is: mctl authority get`,
  )
}

async function retire(
  doors: RotationDoors,
  identity: Identity,
  { name, force = false }: ChangeAuthorityRequest,
): Promise<ChangeAuthorityReply> {
  const { store, log } = doors
  let notes: readonly string[] = []
  const verb = force ? 'force-retire' : 'retire'
  const { object } = await audited(log, { identity, verb, target: { kind: 'Authority', ...(name && { name }) } }, () =>
    store.transact((tx) => {
      const target = targetOf(tx, name)
      const world = worldOf(tx, doors.gateways)
      const objection = retireObjection(target, world, { force, nowMs: tx.nowMs })
      if (objection !== undefined) throw new OpError('Conflict', objection)
      notes = notesOf(tx, target)
      tell(tx, target, 'AuthorityRetired', `by "${identity.user}"`)
      if (target.status?.phase === 'Introduced') {
        tx.remove({ kind: 'Authority', namespace: '', name: target.metadata.name })
        return { object: target }
      }
      return { object: setStatus(tx, target, { phase: 'Retiring', since: timestamp(tx.nowMs) }) }
    }),
  )
  return { name: object.metadata.name, notes }
}

function targetOf(tx: Tx, name: string | undefined): Authority {
  const authorities = tx.list('Authority')
  if (name !== undefined) {
    const named = tx.get('Authority', '', name)
    if (named !== undefined) return named
    const known = authorities.map(({ metadata }) => metadata.name).join(', ')
    throw new OpError('NotFound', `authorities.mctl.dev "${name}" not found; there are: ${known}`)
  }
  if (authorities.length < 2)
    throw new OpError('Conflict', 'there is one authority, and it is in use. Begin with `mctl authority rotate`')
  const shown = shownOf(authorities)
  if (shown?.status?.phase === 'Outgoing') return shown
  const introduced = authorities.find(({ status }) => status?.phase === 'Introduced')
  const waiting = introduced?.status?.waitingFor?.map((holdup) => `\n  ${sentence(holdup)}`).join('') ?? ''
  throw new OpError(
    'Conflict',
    `authority "${introduced?.metadata.name}" does not sign yet${waiting === '' ? ': that takes some seconds' : `, because not everybody trusts it:${waiting}`}\nTo give the change up instead: mctl authority retire ${introduced?.metadata.name}`,
  )
}

const worldOf = (snapshot: Snapshot, gateways: RotationDoors['gateways']): TrustWorld => ({
  authorities: snapshot.list('Authority'),
  nodes: snapshot.list('Node'),
  users: snapshot.list('User'),
  gateways: gateways.now(),
  isSettled: true,
})

function notesOf(tx: Tx, { status }: Authority): readonly string[] {
  if (status?.phase === 'Introduced') return ['The change is given up. The authority that signs goes on.']
  const tokens = tx.list('JoinToken').filter((token) => tokenState(token, tx.nowMs) === 'Unused')
  const names = tokens.map(({ metadata }) => metadata.name).join(', ')
  return [
    ...(names === '' ? [] : [`Join tokens made before are refused from now on: ${names}. Make others.`]),
    'Programs that know the gateway by the old authority.crt need the new one now.',
    'Take a backup: those of before hold the old authority.',
  ]
}

const tell = (tx: Tx, about: Authority, reason: string, message: string): void =>
  void recordEvent(tx, {
    involvedObject: involvedObjectOf(about),
    type: 'Normal',
    reason,
    message,
    source: { component: 'server' },
  })
