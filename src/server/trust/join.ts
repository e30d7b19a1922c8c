/**
 * How a Mac becomes a node, and how certificates are renewed. A token lets one node in once: the Node is made and the
 * token marked in one transaction, then the key is signed. An agent that lost the answer asks again with the same key.
 */
import { timingSafeEqual } from 'node:crypto'
import { API_VERSION, timestamp } from '../../api/meta.ts'
import type { Manifest } from '../../api/meta.ts'
import type { Node } from '../../api/node.ts'
import { JOINED_ANNOTATION, RESET_ANNOTATION, hashOfSecret, sha256, tokenState } from '../../api/trust.ts'
import type { JoinToken, User } from '../../api/trust.ts'
import type { Clock } from '../../lib/clock.ts'
import { OpError, isOpError } from '../../lib/errors.ts'
import type { Logger } from '../../lib/log.ts'
import { TokenBucket } from '../../lib/tokenbucket.ts'
import type { CertificateReply, Handlers, Identity, JoinRequest } from '../../rpc/messages.ts'
import { createObject, involvedObjectOf, patchObject, recordEvent, setStatus } from '../../store/objects.ts'
import type { Store, Tx } from '../../store/store.ts'
import { readCertificate } from '../../lib/x509.ts'
import type { TrustAuthority } from './authority.ts'

export interface TrustDoors {
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
  /** Absent: the cluster has no identities and listens on loopback. */
  readonly authority?: TrustAuthority | undefined
}

/** Of one person that are remembered. */
const CERTIFICATES_MAX = 32
/** Tries of callers that nobody knows, all together: a burst, then so many a second. */
const BURST = 20
const PER_SECOND = 5

export function trustCalls(doors: TrustDoors): Pick<Handlers, 'join' | 'sign'> {
  const limit = new TokenBucket(doors.clock, BURST, PER_SECOND)
  return {
    async join(request, { identity }) {
      const authority = authorityOf(doors)
      if (identity.anonymous === true && limit.take() > 0) throw tooMany()
      const facts = { user: identity.user, verb: 'join', kind: 'Node', name: request.node }
      try {
        const node = await admitted(doors, request, identity)
        const reply = await replyOf(authority, authority.forNode(request.node, node.metadata.uid, request.requestPem))
        doors.log.info('audit', { ...facts, decision: 'allowed', token: request.token?.id })
        return reply
      } catch (error) {
        const reason = isOpError(error) ? error.code : 'Internal'
        doors.log.info('audit', { ...facts, decision: 'refused', token: request.token?.id.slice(0, 64), reason })
        throw error
      }
    },

    async sign({ user, requestPem }, { identity }) {
      const authority = authorityOf(doors)
      const name = user ?? identity.user
      if (identity.node !== undefined || identity.anonymous === true || identity.role === 'gateway')
        throw new OpError('Forbidden', `"${identity.user}" may not ask for a person's certificate`)
      if (name !== identity.user && identity.role !== 'admin')
        throw new OpError(
          'Forbidden',
          `user "${identity.user}" (${identity.role}) may not ask for the certificate of "${name}": only an admin may`,
        )
      const holder = doors.store.snapshot().get('User', '', name)
      if (holder === undefined) throw new OpError('NotFound', `users.mctl.dev "${name}" not found`)
      const reply = await replyOf(authority, authority.forPerson(name, holder.metadata.uid, requestPem))
      await remember(doors, authority, holder, reply.certificatePem, identity)
      doors.log.info('audit', { user: identity.user, verb: 'sign', kind: 'User', name, decision: 'allowed' })
      return reply
    },
  }
}

/** Keeps in mind what the person holds; what was shown with the call gives way to the new one. */
async function remember(
  { store, clock }: TrustDoors,
  authority: TrustAuthority,
  { metadata: { name, uid } }: User,
  certificatePem: string,
  { user, certificate: shown }: Identity,
): Promise<void> {
  const { serial, issuer, notAfterMs } = readCertificate(certificatePem)
  const fresh = { serial, authority: authority.nameOf(issuer) ?? '', expiresAt: timestamp(notAfterMs) }
  const replaced = user === name ? shown?.serial : undefined
  await store.transact((tx) => {
    const holder = tx.get('User', '', name)
    if (holder?.metadata.uid !== uid) throw new OpError('NotFound', `users.mctl.dev "${name}" not found`)
    const others = (holder.status?.certificates ?? []).filter(
      (known) => known.serial !== replaced && Date.parse(known.expiresAt) > clock.nowMs(),
    )
    setStatus(tx, holder, { certificates: [...others, fresh].slice(-CERTIFICATES_MAX) })
  })
}

const tooMany = (): OpError =>
  new OpError('TooManyRequests', 'too many attempts to join: come again in a second', { retryAfterSeconds: 1 })

/** OpError Forbidden when the cluster has no identities. */
export function authorityOf({ authority }: TrustDoors): TrustAuthority {
  if (authority !== undefined) return authority
  throw new OpError(
    'Forbidden',
    'this cluster has no identities: its server listens on loopback only. Start it with --listen on an address that the other Macs reach, e.g. --listen 0.0.0.0:6480',
  )
}

async function replyOf(
  { bundlePem: authorityPem }: TrustAuthority,
  signed: Promise<string>,
): Promise<CertificateReply> {
  return { certificatePem: await signed, authorityPem }
}

/** The Node that the caller may be. */
async function admitted({ store }: TrustDoors, request: JoinRequest, identity: Identity): Promise<Node> {
  if (request.token !== undefined) return store.transact((tx) => joined(tx, request, identity))
  const node = store.snapshot().get('Node', '', request.node)
  if (identity.node !== request.node || node === undefined)
    throw new OpError(
      'Unauthorized',
      `"${identity.user}" may not renew the certificate of node "${request.node}": join with a token of \`mctl join-token create\``,
    )
  return node
}

function joined(tx: Tx, request: JoinRequest, identity: Identity): Node {
  const { node: name, labels = {}, token: sent = { id: '', secret: '' } } = request
  const token = tokenOf(tx, sent)
  const standing = tx.get('Node', '', name)
  // The same key asks again: the answer was lost. It is worth nothing to who does not hold the key.
  const keyHash = sha256(request.requestPem)
  const { status } = token
  if (standing !== undefined && status?.usedBy === name && status.keyHash === keyHash) return standing
  checkUsable(token, name, tx.nowMs)
  const node = standing === undefined ? made(tx, name, labels) : taken(tx, standing, identity)
  tx.put({ ...token, status: { usedBy: name, usedAt: timestamp(tx.nowMs), keyHash } })
  recordEvent(tx, {
    involvedObject: involvedObjectOf(node),
    type: 'Normal',
    reason: 'Joined',
    message: `joined with token "${sent.id}"`,
    source: { component: 'server' },
  })
  return node
}

function checkUsable(token: JoinToken, name: string, nowMs: number): void {
  const { spec, status } = token
  if (status !== undefined)
    throw refused(`it was used by node "${status.usedBy}" at ${status.usedAt}, and lets one node in once`)
  if (tokenState(token, nowMs) === 'Expired') throw refused(`it expired at ${spec.expiresAt}`)
  if (spec.node !== undefined && spec.node !== name) throw refused(`it is for node "${spec.node}", not for "${name}"`)
}

const refused = (why: string): OpError =>
  new OpError('Forbidden', `the join token is refused: ${why}. Make another one: mctl join-token create`)

/** Unknown tokens and wrong secrets are told alike. */
function tokenOf(tx: Tx, { id, secret }: { readonly id: string; readonly secret: string }): JoinToken {
  const token = tx.get('JoinToken', '', id)
  const known = Buffer.from(token?.spec.secretHash ?? hashOfSecret(''))
  const given = Buffer.from(hashOfSecret(secret))
  const isRight = timingSafeEqual(known, given)
  if (token === undefined || !isRight)
    throw refused('the cluster knows no such token; it may be mistyped, deleted, or of another cluster')
  return token
}

function made(tx: Tx, name: string, labels: Readonly<Record<string, string>>): Node {
  const annotations = { [JOINED_ANNOTATION]: timestamp(tx.nowMs) }
  const manifest = {
    apiVersion: API_VERSION,
    kind: 'Node',
    metadata: { name, labels, annotations },
    spec: {},
  } as const satisfies Manifest
  return createObject(tx, manifest).object
}

/** A name that stands: only for who holds its key, or after a reset that nobody has used yet. */
function taken(tx: Tx, node: Node, identity: Identity): Node {
  const { name, annotations = {} } = node.metadata
  const resetMs = Date.parse(annotations[RESET_ANNOTATION] ?? '')
  const joinedMs = Date.parse(annotations[JOINED_ANNOTATION] ?? '') || 0
  if (identity.node !== name && !(resetMs >= joinedMs))
    throw new OpError(
      'Conflict',
      `node "${name}" is in the cluster already, and this agent does not hold its key. Join under another --name, or, if it is the same Mac set up anew: mctl node reset ${name}`,
    )
  const annotation = { metadata: { annotations: { [JOINED_ANNOTATION]: timestamp(tx.nowMs) } } }
  return patchObject(tx, { kind: 'Node', namespace: '', name }, 'merge', annotation).object as Node
}
