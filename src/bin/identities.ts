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
import type { Clock, Random } from '../lib/clock.ts'
import { sleep } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import { joinHostPort, splitHostPort } from '../lib/hostport.ts'
import type { Logger } from '../lib/log.ts'
import { replacePrivateFile } from '../lib/replacefile.ts'
import { makeKey, makeRequest } from '../lib/x509.ts'
import type { IdentityOf } from '../rpc/identity.ts'
import { identityOfHeaders } from '../rpc/identity.ts'
import type { RunningServer } from '../rpc/grpcserver.ts'
import type { ServerTls } from '../rpc/tls.ts'
import type { Authorities, TrustAuthority } from '../server/trust/authority.ts'
import { openAuthority } from '../server/trust/authority.ts'
import { identityOfCertificates } from '../server/trust/identities.ts'
import { createObject } from '../store/objects.ts'
import type { Store } from '../store/store.ts'
import { isLoopback } from './loopback.ts'

export interface Identities {
  readonly identityOf: IdentityOf
  /** Absent: the cluster has none, and everything listens on loopback. */
  readonly trust?: Trust
}

export interface Trust {
  readonly authority: Authorities
  readonly tls: ServerTls
  /** File with the gateway's key and certificate. */
  readonly gatewayCredentials: string
  /** The authorities' certificates alone: what programs need to know whom they speak to. */
  readonly authorityFile: string
}

interface Doors {
  readonly store: Store
  readonly dataDir: string
  readonly listen: string
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

export const ADMIN = 'admin'

export async function openIdentities(doors: Doors): Promise<Identities> {
  const { store, dataDir, listen, clock, log } = doors
  const authority = await openAuthority(doors, !isLoopback(listen))
  if (authority === undefined) return { identityOf: identityOfHeaders }
  // Before anybody else hears of the commit: what they ask of the authorities is of now.
  store.onCommit((changes) => {
    const own = changes.filter(({ object }) => object.kind === 'Authority')
    if (own.length > 0) authority.refresh(own.some(({ type }) => type === 'DELETED'))
  })
  const gatewayCredentials = join(dataDir, 'trust', 'gateway.json')
  const authorityFile = join(dataDir, 'authority.crt')
  const trust = { authority, tls: await tlsOf(authority), gatewayCredentials, authorityFile }
  await writeBeside(trust)
  log.info('identities are on: every call needs a certificate of this cluster', { admin: join(dataDir, 'admin.yaml') })
  const isTrusted = (issuer: string) => authority.nameOf(issuer) !== undefined
  return { identityOf: identityOfCertificates({ store, clock, isTrusted }), trust }
}

const tlsOf = async (authority: Authorities): Promise<ServerTls> => ({
  authorityPem: authority.bundlePem,
  ...(await authority.forServer()),
})

/** What others read from the data folder: the gateway, and people who hand the authorities on to programs. */
async function writeBeside({ authority, gatewayCredentials, authorityFile }: Omit<Trust, 'tls'>): Promise<void> {
  const authorityPem = authority.bundlePem
  writePrivate(gatewayCredentials, JSON.stringify({ authorityPem, ...(await authority.forGateway()) }))
  writePrivate(authorityFile, `${authorityPem.trim()}\n`)
}

export interface FollowDoors extends Pick<Doors, 'store' | 'dataDir' | 'clock' | 'log'> {
  readonly server: Pick<RunningServer, 'address' | 'changeTls' | 'cut'>
  readonly signal: AbortSignal
}

const AGAIN_MS = 5_000

/**
 * Brings the server, the gateway's files and the admin's context in line with each change of authority, until the signal
 * aborts. What fails is tried again; a crash in between is made good by the next start, which writes all of it.
 */
export function followAuthorities(trust: Trust, doors: FollowDoors): void {
  const { store, dataDir, clock, log, server, signal } = doors
  const { authority } = trust
  const align = async () => {
    await writeBeside(trust)
    server.changeTls(await tlsOf(authority))
    await writeAdminContext({ store, dataDir }, authority, server.address)
    server.cut(({ certificate }) => certificate !== undefined && authority.nameOf(certificate.issuer) === undefined)
    log.info('authorities changed', authority.told)
  }
  let last = Promise.resolve()
  const until = async (goal: () => Promise<void>) => {
    while (!signal.aborted)
      try {
        return await goal()
      } catch (error) {
        log.error('a change of authority is not in force yet', { error: messageOf(error) })
        await sleep(clock, AGAIN_MS, signal)
      }
  }
  authority.onChange(() => (last = last.then(() => until(align))))
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
    authority: authority.bundlePem,
    certificate: await authority.forPerson(ADMIN, user.metadata.uid, requestPem),
    key,
  }
  const config = { apiVersion: CONFIG_VERSION, kind: 'Config', currentContext: ADMIN, contexts: [context] }
  writePrivate(join(dataDir, 'admin.yaml'), stringify(config))
}

/** Who may call no longer, or not as before, is cut off at once: streams last for days. */
export function cutRevoked(store: Store, server: Pick<RunningServer, 'cut'>): void {
  store.onCommit((changes) => {
    for (const { type, object, previous } of changes) {
      const { kind, metadata } = object
      const user = kind === 'User' ? metadata.name : kind === 'Node' ? `${NODE_USER_PREFIX}${metadata.name}` : undefined
      if (user === undefined || type === 'ADDED') continue
      const isReset = metadata.annotations?.[RESET_ANNOTATION] !== previous?.metadata.annotations?.[RESET_ANNOTATION]
      const isOtherRole = kind === 'User' && (object as User).spec.role !== (previous as User | undefined)?.spec.role
      if (type === 'DELETED' || isReset || isOtherRole) server.cut((caller) => caller.user === user)
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
