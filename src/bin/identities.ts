/**
 * The cluster's identities, wired: an address that others reach brings the authority into being, and once it is there
 * every call is known by its certificate. Leaves the admin's context and the gateway's credentials in the data folder.
 */
import { mkdirSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { API_VERSION } from '../api/meta.ts'
import { NODE_USER_PREFIX, RESET_ANNOTATION } from '../api/trust.ts'
import type { User } from '../api/trust.ts'
import type { Context } from '../cli/config/file.ts'
import { CONFIG_VERSION } from '../cli/config/file.ts'
import type { Clock } from '../lib/clock.ts'
import { joinHostPort, splitHostPort } from '../lib/hostport.ts'
import type { Logger } from '../lib/log.ts'
import { replacePrivateFile } from '../lib/replacefile.ts'
import { makeKey, makeRequest } from '../lib/x509.ts'
import type { IdentityOf } from '../rpc/identity.ts'
import { identityOfHeaders } from '../rpc/identity.ts'
import type { ServerTls } from '../rpc/tls.ts'
import type { TrustAuthority } from '../server/trust/authority.ts'
import { openAuthority } from '../server/trust/authority.ts'
import { identityOfCertificates } from '../server/trust/identities.ts'
import { createObject } from '../store/objects.ts'
import type { Store } from '../store/store.ts'
import { isLoopback } from './loopback.ts'

export interface Identities {
  readonly identityOf: IdentityOf
  /** Absent: the cluster has none, and everything listens on loopback. */
  readonly trust?: {
    readonly authority: TrustAuthority
    readonly tls: ServerTls
    /** File with the gateway's key and certificate. */
    readonly gatewayCredentials: string
    /** The authority's certificate alone: what programs need to know whom they speak to. */
    readonly authorityFile: string
  }
}

interface Doors {
  readonly store: Store
  readonly dataDir: string
  readonly listen: string
  readonly clock: Clock
  readonly log: Logger
}

export const ADMIN = 'admin'

export async function openIdentities({ store, dataDir, listen, clock, log }: Doors): Promise<Identities> {
  const authority = await openAuthority(dataDir, store.clusterUid, { clock, mayMake: !isLoopback(listen) })
  if (authority === undefined) return { identityOf: identityOfHeaders }
  const authorityPem = authority.certificatePem
  const tls = { authorityPem, ...(await authority.forServer()) }
  const gatewayCredentials = join(dataDir, 'trust', 'gateway.json')
  writePrivate(gatewayCredentials, JSON.stringify({ authorityPem, ...(await authority.forGateway()) }))
  log.info('identities are on: every call needs a certificate of this cluster', { admin: join(dataDir, 'admin.yaml') })
  const authorityFile = join(dataDir, 'authority.crt')
  writePrivate(authorityFile, `${authorityPem.trim()}\n`)
  const trust = { authority, tls, gatewayCredentials, authorityFile }
  return { identityOf: identityOfCertificates({ store, clock }), trust }
}

/** Who owns the data folder is the admin: a context with a fresh key, at every start. `address` is the server's own. */
export async function writeAdminContext(
  { store, dataDir }: Pick<Doors, 'store' | 'dataDir'>,
  authority: TrustAuthority,
  address: string,
): Promise<void> {
  const manifest = {
    apiVersion: API_VERSION,
    kind: 'User',
    metadata: { name: ADMIN },
    spec: { role: 'admin' },
  } as const
  const user = await store.transact((tx) => tx.get('User', '', ADMIN) ?? createObject(tx, manifest).object)
  const key = await makeKey()
  const requestPem = await makeRequest(key, { commonName: ADMIN, organization: '' })
  const context: Context = {
    name: ADMIN,
    server: reachable(address),
    authority: authority.certificatePem,
    certificate: await authority.forPerson(ADMIN, user.metadata.uid, requestPem),
    key,
  }
  const config = { apiVersion: CONFIG_VERSION, kind: 'Config', currentContext: ADMIN, contexts: [context] }
  writePrivate(join(dataDir, 'admin.yaml'), stringify(config))
}

/** Who may call no longer, or not as before, is cut off at once: streams last for days. */
export function cutRevoked(store: Store, cut: (user: string) => void): void {
  store.onCommit((changes) => {
    for (const { type, object, previous } of changes) {
      const { kind, metadata } = object
      const user = kind === 'User' ? metadata.name : kind === 'Node' ? `${NODE_USER_PREFIX}${metadata.name}` : undefined
      if (user === undefined || type === 'ADDED') continue
      const isReset = metadata.annotations?.[RESET_ANNOTATION] !== previous?.metadata.annotations?.[RESET_ANNOTATION]
      const isOtherRole = kind === 'User' && (object as User).spec.role !== (previous as User | undefined)?.spec.role
      if (type === 'DELETED' || isReset || isOtherRole) cut(user)
    }
  })
}

/** An address that others can use: of all interfaces, the first that leaves the machine. */
export function reachable(address: string): string {
  const { host, port } = splitHostPort(address)
  if (host !== '0.0.0.0' && host !== '::') return address
  const own = Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .find((entry) => entry.family === 'IPv4' && !entry.internal)
  return joinHostPort(own?.address ?? '127.0.0.1', port)
}

/** For what runs beside the server: it need not leave the machine. */
export const beside = (address: string): string => address.replace(/^(0\.0\.0\.0|\[::\]):/, '127.0.0.1:')

function writePrivate(file: string, text: string): void {
  mkdirSync(join(file, '..'), { recursive: true, mode: 0o700 })
  replacePrivateFile(file, text)
}
